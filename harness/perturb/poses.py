"""Poses, and the pinned protocol for every perturbation of pixels.

Pixels are in [0, 1], float32, before any normalization. Interpolation is bilinear with zeros outside. A pose rotates
about the image center ((W - 1) / 2, (H - 1) / 2) and then shifts. Positive degrees rotate counter-clockwise on the
screen; `dx` goes right and `dy` goes down, in pixels. Published "worst-of-k rotations and shifts" figures differ
threefold between implementations, since these choices are open. The protocol therefore has a version, which is stored
with every result.
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
"""Version of the rules in this module's docstring; it increases if any pixel of a perturbation changes."""


class Perturbation(Protocol):
    """A deterministic transform of a batch of images; its `repr` identifies it in results."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images, shaped (N, C, H, W) like the input, pixels in [0, 1]."""


@record
class Pose:
    """Rotate by `degrees` counter-clockwise about the center, then shift by (`dx`, `dy`) pixels right and down."""

    degrees: float = 0.0
    dx: float = 0.0
    dy: float = 0.0

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) in this pose; the identity pose returns its input, bit for bit."""
        if self == IDENTITY:
            return images
        return moved_alike(images, self.degrees, self.dx, self.dy)

    def in_words(self) -> str:
        """Return a description with the angle, its direction, and the shift in pixels."""
        turn = (
            f"rotated by {abs(self.degrees):g}° {'counter-' if self.degrees > 0 else ''}clockwise"
            if self.degrees
            else ""
        )
        across = f"{abs(self.dx):g} px {'right' if self.dx > 0 else 'left'}" if self.dx else ""
        along = f"{abs(self.dy):g} px {'down' if self.dy > 0 else 'up'}" if self.dy else ""
        shift = " and ".join(filter(None, (across, along)))
        return ", ".join(filter(None, (turn, f"shifted {shift}" if shift else ""))) or "clean"

    def clamped(self, within: Pose) -> Pose:
        """Return the pose with each axis limited to ± that of `within`."""
        pairs = ((self.degrees, within.degrees), (self.dx, within.dx), (self.dy, within.dy))
        return Pose(*(max(-limit, min(limit, value)) for value, limit in pairs))


IDENTITY = Pose()


@dataclass(frozen=True)
class HorizontalFlip:
    """Flip the image left to right."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the flipped images (N, C, H, W)."""
        return images.flip(-1)

    def in_words(self) -> str:
        """Return a description of the flip."""
        return "flipped left to right"


def pose_each(images: Tensor, degrees: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Apply its own pose to every image.

    `images` is (N, C, H, W); `degrees`, `dx` and `dy` are (N,). The pixels equal those of `Pose` for each image.
    """
    index, shares = sampling(degrees, dx, dy, images.shape[-2], images.shape[-1])
    index = index.unsqueeze(1).expand(-1, images.shape[1], -1)
    return mixed(images, index, shares.unsqueeze(2), lambda pixels, where: pixels.gather(2, where))


def in_words(perturbation: Perturbation) -> str:
    """Return the description of a perturbation, or else its `repr`."""
    own: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    return own() if own else repr(perturbation)


def moved_masks(masks: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return masks (N, H, W) after the perturbation; a pixel is true if at least half of it is object."""
    import torch

    moved = perturbation(torch.from_numpy(masks.astype(np.float32))[:, None])
    return np.asarray((moved[:, 0] >= 0.5).numpy())  # noqa: PLR2004  Half, as the docstring says.
