"""Images of no class, made from the data's images: noise, scrambled phases, shuffled patches, upside down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.perturb.corruptions import changed_alike, one_by_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

PATCHES = 4
"""Number of shuffled patches along each side of an image."""


def _noise(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return uniform and independent values for each pixel and channel."""
    return draw.random(image.shape, dtype=np.float32)


def _phase_scrambled(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return an image with the same amplitude spectrum and random phase shifts, equal in all channels."""
    shift = np.angle(np.fft.fft2(draw.standard_normal(image.shape[:2])))
    shift[0, 0] = 0  # Keeps the mean.
    turned = np.fft.fft2(image, axes=(0, 1)) * np.exp(1j * shift)[..., None]
    return np.asarray(np.fft.ifft2(turned, axes=(0, 1)).real)


def _patch_shuffled(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Return the image with its 4 x 4 patches in random order; a rest at the borders does not move."""
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
"""Functions that turn an image, (H, W, C) float32 in [0, 1], into one of no class, by the name of the kind."""


@dataclass(frozen=True)
class Unfamiliar:
    """Turn each image into one of no class, of a `kind` of `UNFAMILIAR`, rounded to 8 bits.

    The random state depends only on the pixels of the image. Raises `ValueError` for another kind.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in UNFAMILIAR:
            raise ValueError(
                f"kind {self.kind!r} is unknown; expected one of {', '.join(UNFAMILIAR)}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images of no class, (N, C, H, W) like the input, pixels in [0, 1]."""
        return changed_alike(images, self.kind, one_by_one(UNFAMILIAR[self.kind]))

    def in_words(self) -> str:
        """Return the kind as text."""
        return self.kind.replace("-", " ")
