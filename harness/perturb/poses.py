"""The pinned protocol, under which every perturbation changes pixels, and poses.

Pixels are in [0, 1], float32, before any normalisation; interpolation is bilinear with zeros outside. A pose rotates
about the image centre ((W - 1) / 2, (H - 1) / 2) and then shifts. Positive degrees turn counter-clockwise as seen on
the screen, `dx` goes right and `dy` goes down, in pixels. Published "worst-of-k rotations and shifts" figures differ
threefold between implementations that leave these choices open, so they are versioned and stored with every result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.base.records import record
from harness.perturb.sampling import mixed, moved_alike, sampling

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PROTOCOL = 1
"""Version of the rules in this module's docstring; a change of any pixel that a perturbation produces raises it."""


class Perturbation(Protocol):
    """A deterministic transform of a batch of images; its `repr` says which in results."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images, shaped (N, C, H, W) like the input, pixels in [0, 1]."""


@record
class Pose:
    """Rotate by `degrees` counter-clockwise about the centre, then shift by (`dx`, `dy`) pixels right and down."""

    degrees: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in this pose; the identity pose returns its input, bit for bit."""
        if self == IDENTITY:
            return images
        return moved_alike(images, self.degrees, self.dx, self.dy)

    def in_words(self) -> str:
        """Return the pose as people say it, such as "turned by 7.5° clockwise, shifted 2 px left"."""
        turn = (
            f"turned by {abs(self.degrees):g}° {'counter-' if self.degrees > 0 else ''}clockwise"
            if self.degrees
            else ""
        )
        across = f"{abs(self.dx):g} px {'right' if self.dx > 0 else 'left'}" if self.dx else ""
        along = f"{abs(self.dy):g} px {'down' if self.dy > 0 else 'up'}" if self.dy else ""
        shift = " and ".join(filter(None, (across, along)))
        return ", ".join(filter(None, (turn, f"shifted {shift}" if shift else ""))) or "as it is"

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis brought into ± that of `within`."""

        def clamp(value: float, limit: float) -> float:
            return max(-limit, min(limit, value))

        return Pose(clamp(self.degrees, within.degrees), clamp(self.dx, within.dx), clamp(self.dy, within.dy))


IDENTITY = Pose()


@dataclass(frozen=True)
class HorizontalFlip:
    """Mirror the image left to right."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the mirrored images (N, C, H, W)."""
        return images.flip(-1)

    def in_words(self) -> str:
        """Return what it does to an image."""
        return "mirrored left to right"


def pose_each(images: Tensor, degrees: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Put every image in its own pose.

    `images` is (N, C, H, W); `degrees`, `dx` and `dy` are (N,). Returns the same pixels as `Pose` does for each image.
    """
    index, shares = sampling(degrees, dx, dy, images.shape[-2], images.shape[-1])
    index = index.unsqueeze(1).expand(-1, images.shape[1], -1)
    return mixed(images, index, shares.unsqueeze(2), lambda pixels, where: pixels.gather(2, where))


def in_words(perturbation: Perturbation) -> str:
    """Return what a perturbation does to an image, in its own words if it has some."""
    own: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    return own() if own else repr(perturbation)


def moved_masks(masks: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return the masks (N, H, W) as the perturbation moves them, with the images: where at least half is object."""
    import torch

    moved = perturbation(torch.from_numpy(masks.astype(np.float32))[:, None])
    return np.asarray((moved[:, 0] >= 0.5).numpy())  # noqa: PLR2004  Half, as the docstring says.
