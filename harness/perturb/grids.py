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
"""Largest shift of a corner of the augmentation range, as a share of the shorter side of an image."""


def augmentation_range_poses(within: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the 9 x 5 x 5 grid of poses within an augmentation range, by default ±10° and ±2 px.

    An axis with the limit 0 has one place. Shifts within whole limits are whole pixels.
    """
    turns = _places(within.rotate, 4)
    right, down = (
        _whole_pixels(_places(limit, 2), limit) for limit in (within.shift_x, within.shift_y)
    )
    return tuple(Pose(*at) for at in product(turns, right, down))


def _places(limit: float, steps: int) -> tuple[float, ...]:
    """Return so many steps on each side of 0, up to the limit."""
    return tuple(limit * step / steps for step in range(-steps, steps + 1)) if limit else (0.0,)


def _whole_pixels(shifts: Iterable[float], limit: float) -> tuple[float, ...]:
    """Return shifts rounded to pixels, each once, if their limit is one; an interpolation is no shift alone."""
    if not float(limit).is_integer():
        return tuple(shifts)
    return tuple(dict.fromkeys(round(shift) + 0.0 for shift in shifts))


def augmentation_range_corners(within: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the corners of that grid: the largest rotation and translation, in every combination of signs.

    They are eight, fewer if a limit is 0, and none if all are.
    """
    if not within.moves:
        return ()
    limits = (within.rotate, within.shift_x, within.shift_y)
    return tuple(
        Pose(*at) for at in product(*((-limit, limit) if limit else (0.0,) for limit in limits))
    )


def why_no_corners(images: LabelledImages) -> str:
    """Return why images are not measured at the corners of their augmentation range; empty if they are.

    Of the default range, a shift is at most an eighth of the shorter side, because a larger one moves objects out of
    the image. Engstrom et al. (2019) shift by about a tenth. On 8 x 8 pixels, the 2 px would be a quarter. A range that
    a project declares suits its images.
    """
    within = images.domain.augmentation
    if not within.moves:
        return NO_GEOMETRY
    if within != DEFAULT_RANGE:
        return ""
    suits = within.shift_x <= _LARGEST_SHIFT * min(images.pixels.shape[2:])
    return "" if suits else CORNERS_TOO_FAR


NO_GEOMETRY = "the augmentation range has no rotation and no shift"
CORNERS_TOO_FAR = "2 px, the shift at the corners of ±10°, ±2 px, is more than an eighth of the side of these images"
"""Reasons of `why_no_corners`."""


def classic_poses(_: AugmentationRange = DEFAULT_RANGE) -> tuple[Pose, ...]:
    """Return the 31 x 5 x 5 grid within ±30° and ±3 px of Engstrom et al. (2019), "Exploring the Landscape"."""
    shifts = (-3.0, -1.5, 0.0, 1.5, 3.0)
    return tuple(
        Pose(float(angle), dx, dy) for angle, dx, dy in product(range(-30, 31, 2), shifts, shifts)
    )


GRIDS: Mapping[str, Callable[..., tuple[Pose, ...]]] = {
    "augmentation-range": augmentation_range_poses,
    "corner": augmentation_range_corners,
    "classic": classic_poses,
}
"""The grids of poses that a check may name, each a function of the augmentation range (default: ±10°, ±2 px)."""
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
    """Return the perturbations of these views in an augmentation range, in this order; without names only the pose."""
    return (
        (pose,) if names is None else tuple(view for name in names for view in VIEWS[name](within))
    )


def most_dangerous_first(poses: Sequence[Pose]) -> tuple[Pose, ...]:
    """Return poses by decreasing distance from the identity; the unit of each axis is its largest value."""
    limits = [
        max(abs(getattr(pose, axis)) for pose in poses) or 1.0 for axis in ("degrees", "dx", "dy")
    ]

    def distance(pose: Pose) -> float:
        return sum(
            (at / limit) ** 2
            for at, limit in zip((pose.degrees, pose.dx, pose.dy), limits, strict=True)
        )

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
        return (
            f"{100 * severity:.3g}% of ±30° and ±3 px"
            if self.unit == "share"
            else f"{severity:.3g} {self.unit}"
        )

    @property
    def words(self) -> str:
        return {"rotation": "turned", "shift": "moved"}.get(
            self.name, "turned and moved, in % of ±30° and ±3 px"
        )

    @property
    def severities(self) -> np.ndarray:
        return np.array([severity for severity, poses in self.steps.items() for _ in poses])


def _paths(
    angles: Iterable[float], shifts: Iterable[tuple[float, float, float]], shares: Iterable[float]
) -> dict[str, SeverityPath]:
    """Return the paths by angles, by severities with their shifts, and by shares of ±30° and ±3 px."""
    moved: dict[float, tuple[Pose, ...]] = {}
    for severity, dx, dy in shifts:
        moved[severity] = (*moved.get(severity, ()), Pose(0.0, dx, dy))
    signs = [*product((-1, 1), repeat=3)]
    joint = {
        at: tuple(Pose(30 * turn * at, 3 * dx * at, 3 * dy * at) for turn, dx, dy in signs)
        for at in shares
    }
    found = (
        SeverityPath("rotation", "degrees", {at: (Pose(at), Pose(-at)) for at in angles}),
        SeverityPath("shift", "pixels", moved),
        SeverityPath("joint", "share", joint),
    )
    return {path.name: path for path in found}


_DIRECTIONS = [(dx, dy) for dx, dy in product((-1, 0, 1), repeat=2) if (dx, dy) != (0, 0)]
PATHS: Mapping[str, SeverityPath] = _paths(
    map(float, range(1, 46)),
    ((float(size), size * dx, size * dy) for size in range(1, 9) for dx, dy in _DIRECTIONS),
    (step / 20 for step in range(1, 21)),
)
"""Rotation to 45° by whole degrees, translation to 8 px by whole pixels in eight directions, and both at once. The
latter is a share of ±30° and ±3 px in every combination of signs. A failure between two steps is not found."""


def fine_paths(within: AugmentationRange = DEFAULT_RANGE) -> dict[str, SeverityPath]:
    """Return the paths in fine steps for single images: tenths of a degree, every pixel offset, and hundredths.

    They are those of `paths_within`.
    """
    offsets = sorted((math.hypot(dx, dy), dx, dy) for dx, dy in product(range(-8, 9), repeat=2))[1:]
    paths = _paths(
        (at / 10 for at in range(1, 451)), offsets, (step / 100 for step in range(1, 101))
    )
    return paths_within(within, paths)


def paths_within(
    within: AugmentationRange, paths: Mapping[str, SeverityPath] = PATHS
) -> dict[str, SeverityPath]:
    """Return the paths along the axes that a range has; their lengths do not depend on its limits.

    >>> [*paths_within(AugmentationRange(shift_x=6))]
    ['shift']
    """
    wanted = {"rotation": bool(within.rotate), "shift": within.shifts}
    wanted["joint"] = wanted["rotation"] and wanted["shift"]
    return {name: _along(path, within) for name, path in paths.items() if wanted[name]}


def path_within(within: AugmentationRange, name: str) -> SeverityPath:
    """Return the path of this name along the axes of a range; raises `NotApplicableError` for axes it lacks."""
    if (path := paths_within(within).get(name)) is None:
        raise NotApplicableError(f"path {name}: the augmentation range is {within.in_words()}")
    return path


def _along(path: SeverityPath, within: AugmentationRange) -> SeverityPath:
    """Return the path with its poses along the axes of the range alone."""
    if within.shift_x and within.shift_y:
        return path
    frozen = "dy" if within.shift_x else "dx"
    if path.name == "shift":
        kept = {
            at: tuple(pose for pose in poses if not getattr(pose, frozen))
            for at, poses in path.steps.items()
        }
        return replace(path, steps={at: poses for at, poses in kept.items() if poses})
    flat = {
        at: (replace(pose, **{frozen: 0.0}) for pose in poses) for at, poses in path.steps.items()
    }
    return replace(path, steps={at: tuple(dict.fromkeys(poses)) for at, poses in flat.items()})
