"""Hypothesis strategies for poses in whole tenths, which shrink to small poses and not only to simple ones."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.perturb import Pose

_FAR = 7**7
"""Start of the drawn numbers. Hypothesis sometimes draws constants of the loaded code, which depend on the folder and
on the order of imports; no constant is in this range."""


def _alternating(step: int) -> int:
    """Return 0, 1, -1, 2, -2, … for 0, 1, 2, 3, 4, …, so a smaller step gives a smaller number."""
    return (step + 1) // 2 * (1 if step % 2 else -1)


def poses(*, max_degrees: float = 10.0, max_shift_px: float = 2.0) -> st.SearchStrategy[Pose]:
    """Return a strategy for poses within ±`max_degrees` and ±`max_shift_px`, in tenths of a degree and of a pixel.

    Examples shrink towards the identity.
    """

    def tenths(limit: float) -> st.SearchStrategy[int]:
        steps = 2 * round(limit * 10)
        return st.integers(_FAR, _FAR + steps).map(lambda drawn: _alternating(drawn - _FAR))

    def pose(degrees: int, dx: int, dy: int) -> Pose:
        return Pose(degrees / 10, dx / 10, dy / 10)

    return st.builds(pose, tenths(max_degrees), tenths(max_shift_px), tenths(max_shift_px))
