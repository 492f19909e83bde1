"""Augmentation of training: random rotations, translations and flips, the same draws for all models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from harness.base.records import record
from harness.perturb.poses import Pose, within_border

if TYPE_CHECKING:
    from torch import Tensor

    from harness.perturb.poses import Perturbation

_DRAWS = 50


@record
class FlippedPose:
    """A horizontal flip, if `flipped`, and then a pose."""

    flipped: bool
    pose: Pose

    def within_border(self, border: str) -> Perturbation:
        """Return the same flip and pose of images with this border."""
        pose = within_border(self.pose, border)
        assert isinstance(pose, Pose)
        return FlippedPose(self.flipped, pose)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W), flipped or not, in the pose."""
        return self.pose(images.flip(-1) if self.flipped else images)


@record
class Augmentation:
    """Ranges of a training's augmentation, under the names of `[recipe.training]`.

    Images are flipped with a probability, then rotated within ± some degrees and translated within ± a share of their
    side. All draws are uniform, those of degrees in fractions.
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0

    def draws(self, height: int, width: int) -> tuple[FlippedPose, ...]:
        """Return 50 draws for images of this size, a Latin hypercube; translations are whole pixels."""
        rng, levels = np.random.Generator(np.random.PCG64(0)), (np.arange(_DRAWS) + 0.5) / _DRAWS
        flips, turns, right, down = (levels[rng.random(_DRAWS).argsort()] for _ in range(4))
        degrees = self.rotation_degrees * (2 * turns - 1)
        dx, dy = (
            np.round(self.shift_fraction * side * (2 * share - 1)) for side, share in ((width, right), (height, down))
        )
        flipped = flips < self.flip_probability
        return tuple(
            FlippedPose(flipped=bool(flip), pose=Pose(float(angle), float(x), float(y)))
            for flip, angle, x, y in zip(flipped, degrees, dx, dy, strict=True)
        )

    def in_words(self) -> str:
        """Return a description of the ranges."""
        return (
            f"rotated within ±{self.rotation_degrees:g}°, translated within ±{self.shift_fraction:.1%}, "
            f"{self.flip_probability:.1%} flipped"
        )
