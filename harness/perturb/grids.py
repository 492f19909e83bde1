"""Grids of poses, their search order, and paths of increasing severity away from the identity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.perturb.poses import IDENTITY, HorizontalFlip, Pose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.perturb.poses import Perturbation


_LARGEST_SHIFT = 1 / 8
"""Largest shift of a corner of the augmentation range, as a share of the shorter side of an image."""


def augmentation_range_poses() -> tuple[Pose, ...]:
    """Return the 9 x 5 x 5 grid of poses within ±10° and ±2 px, the augmentation range of the shipped model."""
    shifts = (-2.0, -1.0, 0.0, 1.0, 2.0)
    return tuple(Pose(2.5 * turn, dx, dy) for turn, dx, dy in product(range(-4, 5), shifts, shifts))


def augmentation_range_corners() -> tuple[Pose, ...]:
    """Return the eight corners of that grid: the largest rotation and translation, in every combination of signs."""
    return tuple(Pose(10.0 * turn, 2.0 * dx, 2.0 * dy) for turn, dx, dy in product((-1, 1), repeat=3))


def corners_suit(height: int, width: int) -> bool:
    """Return whether images of this size, in pixels, keep their object at the corners of the augmentation range.

    A shift there is at most an eighth of the shorter side, because a larger one moves objects out of the image.
    Engstrom et al. (2019) shift by about a tenth. On 8 x 8 pixels, the 2 px would be a quarter.

    >>> corners_suit(28, 28), corners_suit(8, 8)
    (True, False)
    """
    shift = max(abs(corner.dx) for corner in augmentation_range_corners())
    return shift <= _LARGEST_SHIFT * min(height, width)


CORNERS_TOO_FAR = "2 px, the shift at the corners of ±10°, ±2 px, is more than an eighth of the side of these images"
"""Why images are not measured at the corners of the augmentation range, see `corners_suit`."""


def classic_poses() -> tuple[Pose, ...]:
    """Return the 31 x 5 x 5 grid within ±30° and ±3 px of Engstrom et al. (2019), "Exploring the Landscape"."""
    shifts = (-3.0, -1.5, 0.0, 1.5, 3.0)
    return tuple(Pose(float(angle), dx, dy) for angle, dx, dy in product(range(-30, 31, 2), shifts, shifts))


GRIDS: Mapping[str, Callable[[], tuple[Pose, ...]]] = {
    "augmentation-range": augmentation_range_poses,
    "corner": augmentation_range_corners,
    "classic": classic_poses,
}
"""The grids of poses that a check may name."""
GRIDS_IN_WORDS: Mapping[str, str] = {
    "augmentation-range": "the augmentation range",
    "corner": "the augmentation range's corners",
    "classic": "±30° and ±3 px",
}
VIEWS: Mapping[str, tuple[Perturbation, ...]] = {
    "rest": (IDENTITY,),
    "mirrored": (HorizontalFlip(),),
    "corners": augmentation_range_corners(),
}
"""Perturbations that a check may pool: none, a flip, the corners of the augmentation range."""
VIEWS_IN_WORDS: Mapping[str, str] = {
    "rest": "clean images",
    "mirrored": "flipped images",
    "corners": GRIDS_IN_WORDS["corner"],
}


def views_of(names: Sequence[str] | None, pose: Pose) -> tuple[Perturbation, ...]:
    """Return the perturbations of these views, in this order; without names only the pose."""
    return (pose,) if names is None else tuple(each for name in names for each in VIEWS[name])


def most_dangerous_first(poses: Sequence[Pose]) -> tuple[Pose, ...]:
    """Return poses by decreasing distance from the identity; the unit of each axis is its largest value."""
    limits = [max(abs(getattr(pose, axis)) for pose in poses) or 1.0 for axis in ("degrees", "dx", "dy")]

    def distance(pose: Pose) -> float:
        return sum((at / limit) ** 2 for at, limit in zip((pose.degrees, pose.dx, pose.dy), limits, strict=True))

    return tuple(sorted(poses, key=distance, reverse=True))


def random_poses(grid: Sequence[Pose], count: int, *, images: int, seed: int = 0) -> np.ndarray:
    """Draw `count` poses of the grid for each image, without repetition; returns positions, (images, count)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(len(grid), count, replace=False) for _ in range(images)])


@dataclass(frozen=True)
class SeverityPath:
    """A path away from the identity: the poses of each severity in `unit`, ascending.

    `poses` are all of them, the least severe first, and `severities` that of each. `limit` is the last severity with
    its unit. `words` describe the change, with the unit of its severities if that is not obvious.
    """

    name: str
    unit: Literal["degrees", "pixels", "share"]
    steps: Mapping[float, tuple[Pose, ...]]

    @property
    def poses(self) -> tuple[Pose, ...]:
        return tuple(pose for poses in self.steps.values() for pose in poses)

    @property
    def limit(self) -> str:
        return self.label(max(self.steps))

    def label(self, severity: float) -> str:
        """Return a severity with its unit as text, such as 12.5 degrees or 40% of ±30° and ±3 px."""
        return f"{100 * severity:.3g}% of ±30° and ±3 px" if self.unit == "share" else f"{severity:.3g} {self.unit}"

    @property
    def words(self) -> str:
        return {"rotation": "turned", "shift": "moved"}.get(self.name, "turned and moved, in % of ±30° and ±3 px")

    @property
    def severities(self) -> np.ndarray:
        return np.array([severity for severity, poses in self.steps.items() for _ in poses])


def _paths(angles: Iterable[float], shifts: Iterable[tuple[float, float, float]], shares: Iterable[float]) -> _Paths:
    """Return the paths by angles, by severities with their shifts, and by shares of ±30° and ±3 px."""
    moved: dict[float, tuple[Pose, ...]] = {}
    for severity, dx, dy in shifts:
        moved[severity] = (*moved.get(severity, ()), Pose(0.0, dx, dy))
    signs = [*product((-1, 1), repeat=3)]
    joint = {at: tuple(Pose(30 * turn * at, 3 * dx * at, 3 * dy * at) for turn, dx, dy in signs) for at in shares}
    return (
        SeverityPath("rotation", "degrees", {at: (Pose(at), Pose(-at)) for at in angles}),
        SeverityPath("shift", "pixels", moved),
        SeverityPath("joint", "share", joint),
    )


_Paths = tuple[SeverityPath, SeverityPath, SeverityPath]
_DIRECTIONS = [(dx, dy) for dx, dy in product((-1, 0, 1), repeat=2) if (dx, dy) != (0, 0)]
PATHS: Mapping[str, SeverityPath] = {
    path.name: path
    for path in _paths(
        map(float, range(1, 46)),
        ((float(size), size * dx, size * dy) for size in range(1, 9) for dx, dy in _DIRECTIONS),
        (step / 20 for step in range(1, 21)),
    )
}
"""Rotation to 45° by whole degrees, translation to 8 px by whole pixels in eight directions, and both at once. The
latter is a share of ±30° and ±3 px in every combination of signs. A failure between two steps is not found."""


def fine_paths() -> tuple[SeverityPath, ...]:
    """Return the paths in fine steps for single images: tenths of a degree, every pixel offset, and hundredths."""
    offsets = sorted((math.hypot(dx, dy), dx, dy) for dx, dy in product(range(-8, 9), repeat=2))[1:]
    return _paths((at / 10 for at in range(1, 451)), offsets, (step / 100 for step in range(1, 101)))
