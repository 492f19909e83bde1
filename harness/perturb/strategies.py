"""Hypothesis strategies for poses in whole tenths, which shrink to small poses and not only to simple ones."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.base.records import record
from harness.perturb import Pose

_FAR = 7**7
"""Start of the drawn numbers. Hypothesis sometimes draws constants of the loaded code, which depend on the folder and
on the order of imports; no constant is in this range."""


def _alternating(step: int) -> int:
    """Return 0, 1, -1, 2, -2, … for 0, 1, 2, 3, 4, …, so a smaller step gives a smaller number."""
    return (step + 1) // 2 * (1 if step % 2 else -1)


@record
class DrawnPose(Pose):
    """A pose drawn within ± `of`; `clamped` stretches it to a wider range, so that draws reach all of that."""

    of: Pose = Pose()

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis limited to ± that of `within`, after stretching to a wider one."""
        axes = {
            axis: getattr(self, axis)
            * max(1.0, abs(getattr(within, axis)) / getattr(self.of, axis))
            for axis in ("degrees", "dx", "dy")
            if getattr(self.of, axis)
        }
        return Pose(**axes).clamped(within)


def drawn_poses(
    *, max_degrees: float = 10.0, max_shift_px: float = 2.0
) -> st.SearchStrategy[DrawnPose]:
    """Return the strategy of `poses` with draws that `clamped` stretches to the range of a check."""
    of = Pose(max_degrees, max_shift_px, max_shift_px)
    drawn = poses(max_degrees=max_degrees, max_shift_px=max_shift_px)
    return drawn.map(lambda pose: DrawnPose(pose.degrees, pose.dx, pose.dy, of))


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
