"""Grids of poses, their search order, and paths of increasing severity away from the identity."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import NotApplicableError
from harness.data.domain import DEFAULT_RANGE, AugmentationRange
from harness.perturb.poses import IDENTITY, HorizontalFlip, Pose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.data.images import LabelledImages
    from harness.perturb.poses import Perturbation


_LARGEST_SHIFT = 1 / 8
"""Largest shift of a corner of the augmentation range, as a share of an image's shorter side."""


NO_GEOMETRY = "the augmentation range has no rotation and no shift"
CORNERS_TOO_FAR = (
    "2 px, the shift at the corners of ±10°, ±2 px, "
    "is more than an eighth of the side of these images"
)
"""Reasons of `why_no_corners`."""


def augmentation_range_poses(within: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the 9 x 5 x 5 grid of poses within an augmentation range, by default ±10° and ±2 px.

    An axis with the limit 0 has one place. Shifts within whole limits are whole pixels.

    >>> len(augmentation_range_poses())
    225
    """
    degrees = _places(within.rotate, steps=4)
    shifts_right = _whole_pixels(_places(within.shift_x, steps=2), within.shift_x)
    shifts_down = _whole_pixels(_places(within.shift_y, steps=2), within.shift_y)
    return tuple(Pose(*place) for place in product(degrees, shifts_right, shifts_down))


def _places(limit: float, *, steps: int) -> tuple[float, ...]:
    """Return so many steps on each side of 0, up to the limit."""
    if not limit:
        return (0.0,)
    return tuple(limit * step / steps for step in range(-steps, steps + 1))


def _whole_pixels(shifts: Sequence[float], limit: float) -> tuple[float, ...]:
    """Return shifts rounded to whole pixels, each once, if their limit is whole.

    A shift by a part of a pixel also interpolates, which blurs the image.
    """
    if not float(limit).is_integer():
        return tuple(shifts)
    rounded = [round(shift) + 0.0 for shift in shifts]
    return tuple(dict.fromkeys(rounded))


def augmentation_range_corners(within: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the corners of the grid of `augmentation_range_poses`.

    They are the largest rotation and translation, in every combination of signs: eight poses, fewer
    if a limit is 0, and none if all are.

    >>> len(augmentation_range_corners())
    8
    """
    if not within.moves:
        return ()
    degrees = _both_ends(within.rotate)
    shifts_right = _both_ends(within.shift_x)
    shifts_down = _both_ends(within.shift_y)
    return tuple(Pose(*corner) for corner in product(degrees, shifts_right, shifts_down))


def _both_ends(limit: float) -> tuple[float, ...]:
    if not limit:
        return (0.0,)
    return (-limit, limit)


def why_no_corners(images: LabelledImages) -> str:
    """Return why images are not measured at the corners of their augmentation range.

    The reason is empty if they are measured there.
    """
    within = images.domain.augmentation
    if not within.moves:
        return NO_GEOMETRY
    # A range that a project declares suits its images.
    if within != DEFAULT_RANGE:
        return ""

    # A larger shift moves objects out of the image. Engstrom et al. (2019) shift by about a tenth.
    # On 8 x 8 pixels, the 2 px of the default range would be a quarter.
    shorter_side = min(images.pixels.shape[2:])
    if within.shift_x > _LARGEST_SHIFT * shorter_side:
        return CORNERS_TOO_FAR
    return ""


def classic_poses(_: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the 31 x 5 x 5 grid within ±30° and ±3 px.

    It is that of Engstrom et al. (2019), "Exploring the Landscape".
    """
    degrees = [float(angle) for angle in range(-30, 31, 2)]
    shifts = (-3.0, -1.5, 0.0, 1.5, 3.0)
    return tuple(Pose(*place) for place in product(degrees, shifts, shifts))


GRIDS: Mapping[str, Callable[..., tuple[Pose, ...]]] = {
    "augmentation-range": augmentation_range_poses,
    "corner": augmentation_range_corners,
    "classic": classic_poses,
}
"""The grids of poses that a check may name.

Each is a function of the augmentation range, by default ±10° and ±2 px.
"""
GRIDS_IN_WORDS: Mapping[str, str] = {
    "augmentation-range": "the augmentation range",
    "corner": "the augmentation range's corners",
    "classic": "±30° and ±3 px",
}
VIEWS: Mapping[str, Callable[[AugmentationRange], tuple[Perturbation, ...]]] = {
    "rest": lambda _: (IDENTITY,),
    "mirrored": lambda _: (HorizontalFlip(),),
    "corners": augmentation_range_corners,
}
"""Perturbations that a check may pool: none, a flip, the corners of the augmentation range."""
VIEWS_IN_WORDS: Mapping[str, str] = {
    "rest": "clean images",
    "mirrored": "flipped images",
    "corners": GRIDS_IN_WORDS["corner"],
}


def views_of(
    names: Sequence[str] | None, pose: Pose, within: AugmentationRange = DEFAULT_RANGE
) -> tuple[Perturbation, ...]:
    """Return the perturbations of these views in an augmentation range, in this order.

    Without names, it is only the pose.
    """
    if names is None:
        return (pose,)
    views: list[Perturbation] = []
    for name in names:
        views.extend(VIEWS[name](within))
    return tuple(views)


def most_dangerous_first(poses: Sequence[Pose]) -> tuple[Pose, ...]:
    """Return poses by decreasing distance from the identity.

    The unit of each axis is its largest value.

    >>> most_dangerous_first([Pose(5.0), Pose(-10.0)])[0]
    Pose(degrees=-10.0, dx=0.0, dy=0.0)
    """
    largest = []
    for axis in ("degrees", "dx", "dy"):
        magnitudes = [abs(getattr(pose, axis)) for pose in poses]
        largest.append(max(magnitudes) or 1.0)
    degrees_unit, dx_unit, dy_unit = largest

    def squared_distance(pose: Pose) -> float:
        turned = (pose.degrees / degrees_unit) ** 2
        right = (pose.dx / dx_unit) ** 2
        down = (pose.dy / dy_unit) ** 2
        return turned + right + down

    return tuple(sorted(poses, key=squared_distance, reverse=True))


def random_poses(grid: Sequence[Pose], count: int, *, images: int, seed: int = 0) -> np.ndarray:
    """Draw `count` poses of the grid for each image, without repetition.

    Returns:
        Positions in the grid, (images, count) int64.
    """
    rng = np.random.default_rng(seed)
    draws = [rng.choice(len(grid), count, replace=False) for _ in range(images)]
    return np.stack(draws)


@dataclass(frozen=True)
class SeverityPath:
    """A path away from the identity: the poses of each severity in `unit`, ascending."""

    name: str
    unit: Literal["degrees", "pixels", "share"]
    steps: Mapping[float, tuple[Pose, ...]]

    @property
    def poses(self) -> tuple[Pose, ...]:
        """Return the poses of all severities, the least severe first."""
        poses: list[Pose] = []
        for poses_of_severity in self.steps.values():
            poses.extend(poses_of_severity)
        return tuple(poses)

    @property
    def severities(self) -> np.ndarray:
        """Return the severity of each of the `poses`, (P,) float64."""
        severities: list[float] = []
        for severity, poses in self.steps.items():
            severities.extend([severity] * len(poses))
        return np.array(severities)

    @property
    def limit(self) -> str:
        """Return the last severity with its unit."""
        return self.label(max(self.steps))

    def label(self, severity: float) -> str:
        """Return a severity with its unit as text.

        >>> PATHS["joint"].label(0.4)
        '40% of ±30° and ±3 px'
        """
        if self.unit == "share":
            return f"{100 * severity:.3g}% of ±30° and ±3 px"
        return f"{severity:.3g} {self.unit}"

    @property
    def words(self) -> str:
        """Return a description of the change, with the unit of its severities if not obvious."""
        if self.name == "rotation":
            return "turned"
        if self.name == "shift":
            return "moved"
        return "turned and moved, in % of ±30° and ±3 px"


def _rotation_path(angles: Iterable[float]) -> SeverityPath:
    """Return the path of rotations by these angles, in both directions."""
    steps = {angle: (Pose(angle), Pose(-angle)) for angle in angles}
    return SeverityPath("rotation", "degrees", steps)


def _shift_path(shifts: Iterable[tuple[float, float, float]]) -> SeverityPath:
    """Return the path of shifts, each a severity with its dx and dy."""
    steps: dict[float, tuple[Pose, ...]] = {}
    for severity, dx, dy in shifts:
        steps[severity] = (*steps.get(severity, ()), Pose(0.0, dx, dy))
    return SeverityPath("shift", "pixels", steps)


def _joint_path(shares: Iterable[float]) -> SeverityPath:
    """Return the path of rotations and shifts by shares of ±30° and ±3 px, with all signs."""
    steps = {}
    for share in shares:
        steps[share] = tuple(
            Pose(30 * turn * share, 3 * right * share, 3 * down * share)
            for turn, right, down in product((-1, 1), repeat=3)
        )
    return SeverityPath("joint", "share", steps)


def _by_name(*paths: SeverityPath) -> dict[str, SeverityPath]:
    return {path.name: path for path in paths}


def _shifts_in_eight_directions() -> list[tuple[float, float, float]]:
    """Return shifts of 1 to 8 px, each as its size, dx and dy."""
    shifts: list[tuple[float, float, float]] = []
    for size in range(1, 9):
        for right, down in product((-1, 0, 1), repeat=2):
            if right or down:
                shifts.append((float(size), size * right, size * down))
    return shifts


def _shifts_by_distance() -> list[tuple[float, float, float]]:
    """Return every shift by whole pixels within ±8 px, each as its length, dx and dy."""
    offsets = product(range(-8, 9), repeat=2)
    shifts: list[tuple[float, float, float]] = [(math.hypot(dx, dy), dx, dy) for dx, dy in offsets]
    shifts.sort()
    return shifts[1:]  # The first one does not move.


PATHS: Mapping[str, SeverityPath] = _by_name(
    _rotation_path(float(angle) for angle in range(1, 46)),
    _shift_path(_shifts_in_eight_directions()),
    _joint_path(step / 20 for step in range(1, 21)),
)
"""Rotation, translation, and both at once.

Rotation goes to 45° by whole degrees, and translation to 8 px by whole pixels in eight directions.
Both at once are a share of ±30° and ±3 px in every combination of signs. A failure between two
steps is not found.
"""


def fine_paths(within: AugmentationRange = DEFAULT_RANGE) -> dict[str, SeverityPath]:
    """Return the paths of `paths_within` in fine steps, for single images.

    The steps are tenths of a degree, every pixel offset, and hundredths of both at once.
    """
    paths = _by_name(
        _rotation_path(tenth / 10 for tenth in range(1, 451)),
        _shift_path(_shifts_by_distance()),
        _joint_path(step / 100 for step in range(1, 101)),
    )
    return paths_within(within, paths)


def paths_within(
    within: AugmentationRange, paths: Mapping[str, SeverityPath] = PATHS
) -> dict[str, SeverityPath]:
    """Return the paths along the axes that a range has; their lengths do not depend on its limits.

    >>> [*paths_within(AugmentationRange(shift_x=6))]
    ['shift']
    """
    rotates = bool(within.rotate)
    in_range = {
        "rotation": rotates,
        "shift": within.shifts,
        "joint": rotates and within.shifts,
    }
    return {name: _along(path, within) for name, path in paths.items() if in_range[name]}


def path_within(within: AugmentationRange, name: str) -> SeverityPath:
    """Return the path of this name along the axes of a range.

    Raises:
        NotApplicableError: The range lacks an axis of the path.
    """
    path = paths_within(within).get(name)
    if path is None:
        raise NotApplicableError(f"path {name}: the augmentation range is {within.in_words()}")
    return path


def _along(path: SeverityPath, within: AugmentationRange) -> SeverityPath:
    """Return the path with its poses along the axes of the range alone."""
    if within.shift_x and within.shift_y:
        return path
    frozen_axis = "dy" if within.shift_x else "dx"

    steps = {}
    for severity, poses in path.steps.items():
        if path.name == "shift":
            poses_along = [pose for pose in poses if not getattr(pose, frozen_axis)]
        else:
            poses_along = [replace(pose, **{frozen_axis: 0.0}) for pose in poses]
        if poses_along:
            steps[severity] = tuple(dict.fromkeys(poses_along))
    return replace(path, steps=steps)
