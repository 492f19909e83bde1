"""Hypothesis strategies for poses, in whole tenths, so that shrinking makes them small and not just simple."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.perturb import Pose


def poses(*, max_degrees: float = 10.0, max_shift_px: float = 2.0) -> st.SearchStrategy[Pose]:
    """Return a strategy for poses within ±`max_degrees` and ±`max_shift_px`, in tenths of a degree and of a pixel.

    Shrinks towards the identity.
    """

    def tenths(limit: float) -> st.SearchStrategy[int]:
        return st.integers(-round(limit * 10), round(limit * 10))

    def pose(degrees: int, dx: int, dy: int) -> Pose:
        return Pose(degrees / 10, dx / 10, dy / 10)

    return st.builds(pose, tenths(max_degrees), tenths(max_shift_px), tenths(max_shift_px))
