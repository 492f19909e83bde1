"""Hypothesis strategies for poses, in whole tenths, so that shrinking makes them small and not just simple."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.perturb import Pose

_FAR = 7**7
"""Where numbers are drawn: Hypothesis draws now and then a constant of the code that it finds loaded, which depends on
the folder of the checkout and on the order of imports. No constant is here."""


def _alternating(step: int) -> int:
    """Return 0, 1, -1, 2, -2, … for 0, 1, 2, 3, 4, …: shrinking a step makes the number small."""
    return (step + 1) // 2 * (1 if step % 2 else -1)


def poses(*, max_degrees: float = 10.0, max_shift_px: float = 2.0) -> st.SearchStrategy[Pose]:
    """Return a strategy for poses within ±`max_degrees` and ±`max_shift_px`, in tenths of a degree and of a pixel.

    Shrinks towards the identity.
    """

    def tenths(limit: float) -> st.SearchStrategy[int]:
        steps = 2 * round(limit * 10)
        return st.integers(_FAR, _FAR + steps).map(lambda drawn: _alternating(drawn - _FAR))

    def pose(degrees: int, dx: int, dy: int) -> Pose:
        return Pose(degrees / 10, dx / 10, dy / 10)

    return st.builds(pose, tenths(max_degrees), tenths(max_shift_px), tenths(max_shift_px))
