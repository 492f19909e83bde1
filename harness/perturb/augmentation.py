"""Augmentation of training, with the same draws for all models.

The draws are random poses and flips, or those of the user's own function.
"""

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
        if self.flipped:
            images = images.flip(-1)
        return self.pose(images)


@record
class Augmentation:
    """Ranges of a training's augmentation, under the names of `[recipe.training]`.

    Images are flipped with a probability, then rotated within ± some degrees and translated within
    ± a share of their side. All draws are uniform, those of degrees in fractions.

    >>> Augmentation(rotation_degrees=10, shift_fraction=0.07).in_words()
    'rotated within ±10°, translated within ±7.0%, 0.0% flipped'
    """

    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    flip_probability: Annotated[float, Field(ge=0, le=1)] = 0.0

    def draws(self, height: int, width: int) -> tuple[FlippedPose, ...]:
        """Return 50 draws for images of this size; translations are whole pixels.

        The draws are a Latin hypercube (McKay, Beckman & Conover 1979), so that few of them cover
        each range evenly.
        """
        rng = np.random.Generator(np.random.PCG64(0))
        levels = (np.arange(_DRAWS) + 0.5) / _DRAWS

        def shuffled_levels() -> np.ndarray:
            return np.asarray(levels[rng.random(_DRAWS).argsort()])

        flip_levels = shuffled_levels()
        rotation_levels = shuffled_levels()
        right_levels = shuffled_levels()
        down_levels = shuffled_levels()

        flipped = flip_levels < self.flip_probability
        degrees = self.rotation_degrees * (2 * rotation_levels - 1)
        dx = np.round(self.shift_fraction * width * (2 * right_levels - 1))
        dy = np.round(self.shift_fraction * height * (2 * down_levels - 1))

        return tuple(
            FlippedPose(bool(flip), Pose(float(angle), float(right), float(down)))
            for flip, angle, right, down in zip(flipped, degrees, dx, dy, strict=True)
        )

    def in_words(self) -> str:
        """Return a description of the ranges."""
        return (
            f"rotated within ±{self.rotation_degrees:g}°, "
            f"translated within ±{self.shift_fraction:.1%}, "
            f"{self.flip_probability:.1%} flipped"
        )


@record
class UserDraw:
    """One random draw of the user's augmentation function; all images of a batch get the same draw.

    The function gets one image (C, H, W), pixels in [0, 1], and a `torch.Generator`. It returns the
    augmented image, of the same shape. It never gets a batch, because its result would then depend
    on the size of the batch.
    """

    of_user: ClassVar[bool] = True
    """Results are not cached, because the user's code may change under the same name."""
    function: str
    seed: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return the augmented images (N, C, H, W).

        Raises:
            UserCodeError: The function raises, or returns another shape or pixels beyond [0, 1].
        """
        import torch

        function = imported(self.function, setting=_FUNCTION_KEY)
        augmented = torch.empty_like(images)
        for row, image in enumerate(images):
            generator = torch.Generator().manual_seed(self.seed)
            augmented[row] = self._augmented(function, image, generator)
        return augmented

    def _augmented(self, function: Any, image: Tensor, generator: torch.Generator) -> Tensor:
        expected_shape = tuple(image.shape)
        try:
            with foreign_code():
                result: Tensor = function(image.clone(), generator)
        except Exception as error:  # The user's code may raise any exception.
            problem = f"raised {error!r} for an image of shape {expected_shape}"
            raise self._error(problem) from error

        shape = tuple(getattr(result, "shape", ()))
        if shape != expected_shape:
            kind = type(result).__name__
            raise self._error(f"returned {kind} {shape}; expected a tensor {expected_shape}")

        lowest = float(result.min())
        highest = float(result.max())
        in_range = lowest >= 0 and highest <= 1  # False if a pixel is NaN.
        if not in_range:
            raise self._error(
                f"returned pixels from {lowest:g} to {highest:g}; "
                "expected 0 to 1, before normalization"
            )
        return result

    def _error(self, problem: str) -> UserCodeError:
        return UserCodeError(problem, setting=f"{_FUNCTION_KEY} {self.function}")


@record
class UserAugmentation:
    """The user's own augmentation function, as `package.module:name`; `UserDraw` calls it."""

    function: str

    def draws(self, height: int, width: int) -> tuple[UserDraw, ...]:
        """Return 50 draws, for images of any size."""
        del height, width
        return tuple(UserDraw(self.function, seed) for seed in range(_DRAWS))
