"""Hypothesis strategies for poses in whole tenths.

Their examples shrink to poses that are small, and not only simple.
"""

from __future__ import annotations

from hypothesis import strategies as st

from harness.base.records import record
from harness.perturb import Pose

_FIRST_NUMBER = 7**7
"""Start of the drawn numbers.

Hypothesis sometimes draws constants of the loaded code, which depend on the folder and on the order
of imports. No constant is in this range.
"""
_AXES = ("degrees", "dx", "dy")


def _alternating(step: int) -> int:
    """Return 0, 1, -1, 2, -2, … for 0, 1, 2, 3, 4, …, so that a smaller step is a smaller number.

    >>> [_alternating(step) for step in range(5)]
    [0, 1, -1, 2, -2]
    """
    size = (step + 1) // 2
    if step % 2:
        return size
    return -size


@record
class DrawnPose(Pose):
    """A pose drawn within ± `of`.

    `clamped` stretches it to a wider range first, so that the draws reach all of that range.
    """

    of: Pose = Pose()

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis limited to ± that of `within`, after stretching to it.

        >>> drawn = DrawnPose(5.0, 1.0, 0.0, of=Pose(10.0, 2.0, 2.0))
        >>> drawn.clamped(Pose(30.0, 2.0, 2.0))
        Pose(degrees=15.0, dx=1.0, dy=0.0)
        """
        stretched = {}
        for axis in _AXES:
            drawn_limit = getattr(self.of, axis)
            if drawn_limit:
                stretch = max(1.0, abs(getattr(within, axis)) / drawn_limit)
                stretched[axis] = getattr(self, axis) * stretch
        return Pose(**stretched).clamped(within)


def drawn_poses(
    *, max_degrees: float = 10.0, max_shift_px: float = 2.0
) -> st.SearchStrategy[DrawnPose]:
    """Return the strategy of `poses`, with draws that `clamped` stretches to the range of a check.

    Args:
        max_degrees: The largest rotation, in degrees.
        max_shift_px: The largest shift along each axis, in pixels.
    """
    limits = Pose(max_degrees, max_shift_px, max_shift_px)
    strategy = poses(max_degrees=max_degrees, max_shift_px=max_shift_px)
    return strategy.map(lambda pose: DrawnPose(pose.degrees, pose.dx, pose.dy, limits))


def poses(*, max_degrees: float = 10.0, max_shift_px: float = 2.0) -> st.SearchStrategy[Pose]:
    """Return a strategy for poses in tenths of a degree and of a pixel.

    Examples shrink towards the identity.

    Args:
        max_degrees: The largest rotation, in degrees.
        max_shift_px: The largest shift along each axis, in pixels.
    """

    def tenths(limit: float) -> st.SearchStrategy[int]:
        steps = 2 * round(limit * 10)
        numbers = st.integers(_FIRST_NUMBER, _FIRST_NUMBER + steps)
        return numbers.map(lambda number: _alternating(number - _FIRST_NUMBER))

    def pose(degrees: int, dx: int, dy: int) -> Pose:
        return Pose(degrees / 10, dx / 10, dy / 10)

    return st.builds(pose, tenths(max_degrees), tenths(max_shift_px), tenths(max_shift_px))
