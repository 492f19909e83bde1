"""Augmentation of training with the same draws for all models: random poses and flips, or the user's function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from harness.base.errors import UserCodeError, foreign_code
from harness.base.records import record
from harness.base.user_code import imported
from harness.perturb.poses import Pose, within_border

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.perturb.poses import Perturbation

_DRAWS = 50
_FUNCTION_KEY = "augmentation_function"


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
            np.round(self.shift_fraction * side * (2 * share - 1))
            for side, share in ((width, right), (height, down))
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


@record
class UserDraw:
    """One random draw of the user's function for augmentation; each image of a batch gets the same draw.

    The function gets one image (C, H, W), pixels in [0, 1], and a `torch.Generator`. It returns the augmented image, of
    the same shape. A batch of several images would make the result depend on the size of the batch.
    """

    of_user: ClassVar[bool] = True
    """Results are not cached, because the user's code may change under the same name."""
    function: str
    seed: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return the augmented images (N, C, H, W); raises `UserCodeError` if the function fails."""
        import torch

        function = imported(self.function, setting=_FUNCTION_KEY)
        augmented = torch.empty_like(images)
        for row, image in enumerate(images):
            augmented[row] = self._augmented(
                function, image, torch.Generator().manual_seed(self.seed)
            )
        return augmented

    def _augmented(self, function: Any, image: Tensor, generator: torch.Generator) -> Tensor:
        try:
            with foreign_code():
                result: Tensor = function(image.clone(), generator)
        except Exception as error:  # The user's code may raise any exception.
            raise self._error(
                f"raised {error!r} for an image of shape {tuple(image.shape)}"
            ) from error
        shape = tuple(getattr(result, "shape", ()))
        if shape != tuple(image.shape):
            raise self._error(
                f"returned {type(result).__name__} {shape}; expected a tensor {tuple(image.shape)}"
            )
        lowest, highest = float(result.min()), float(result.max())
        if not (lowest >= 0 and highest <= 1):  # False for pixels that are not a number, too.
            raise self._error(
                f"returned pixels from {lowest:g} to {highest:g}; expected 0 to 1, before normalization"
            )
        return result

    def _error(self, problem: str) -> UserCodeError:
        return UserCodeError(problem, setting=f"{_FUNCTION_KEY} {self.function}")


@record
class UserAugmentation:
    """The user's own function for augmentation, as `package.module:name`; see `UserDraw` for what it gets."""

    function: str

    def draws(self, height: int, width: int) -> tuple[UserDraw, ...]:
        """Return 50 draws, for images of any size."""
        del height, width
        return tuple(UserDraw(self.function, seed) for seed in range(_DRAWS))
