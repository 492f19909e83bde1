"""Images of no class, made of those that the data have: noise, scrambled phases, shuffled patches, upside down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions.kind import generator_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

PATCHES = 4
"""Patches along each side of an image that are shuffled."""


def _noise(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return pixels that are uniform and independent, for each channel."""
    return draw.random(image.shape, dtype=np.float32)


def _phase_scrambled(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return an image with the spectrum of this one and random phases, the same shift of phase in each channel."""
    shift = np.angle(np.fft.fft2(draw.standard_normal(image.shape[:2])))
    shift[0, 0] = 0  # The mean stays.
    turned = np.fft.fft2(image, axes=(0, 1)) * np.exp(1j * shift)[..., None]
    return np.asarray(np.fft.ifft2(turned, axes=(0, 1)).real)


def _patch_shuffled(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return the image with its patches, 4 by 4 squares or oblongs, in random order; what is left over stays."""
    height, width = image.shape[0] // PATCHES, image.shape[1] // PATCHES
    whole = image[: height * PATCHES, : width * PATCHES]
    patches = whole.reshape(PATCHES, height, PATCHES, width, image.shape[2]).swapaxes(1, 2)
    single = patches.reshape(PATCHES**2, height, width, image.shape[2])
    shuffled = single[draw.permutation(PATCHES**2)].reshape(patches.shape)
    result = image.copy()
    result[: height * PATCHES, : width * PATCHES] = shuffled.swapaxes(1, 2).reshape(whole.shape)
    return result


def _upside_down(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Return the image with its rows in reverse order."""
    return image[::-1]


UNFAMILIAR: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "phase-scrambled": _phase_scrambled,
    "patch-shuffled": _patch_shuffled,
    "upside-down": _upside_down,
}
"""Functions that make an image of no class of one, (H, W, C) float32 in [0, 1], by the name of the kind."""


@dataclass(frozen=True)
class Unfamiliar:
    """Make of each image one of no class, of a `kind` of `UNFAMILIAR`, as 8 bits would hold it.

    What is random depends on the pixels of the image alone. Raises `ValueError` for another kind.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in UNFAMILIAR:
            raise ValueError(f"kind {self.kind!r} is unknown; expected one of {', '.join(UNFAMILIAR)}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images of no class, (N, C, H, W) like the input, pixels in [0, 1]."""
        import torch

        from harness.data.images import unit_range

        if not len(images):
            return images
        pixels = np.rint(images.permute(0, 2, 3, 1).contiguous().cpu().numpy() * 255).astype(np.uint8)
        make = UNFAMILIAR[self.kind]
        made = [make(image.astype(np.float32) / 255, generator_of(self.kind, image)) for image in pixels]
        stored = np.rint(np.stack(made).clip(0, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        return unit_range(torch.from_numpy(np.ascontiguousarray(stored)).to(images.device))

    def in_words(self) -> str:
        """Return what became of an image."""
        return self.kind.replace("-", " ")
