"""Images of no class, made from the data's images.

They are noise, images with scrambled phases or shuffled patches, and images upside down.
"""

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


def _noise(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return uniform and independent values for each pixel and channel."""
    return generator.random(image.shape, dtype=np.float32)


def _phase_scrambled(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return an image of the same amplitude spectrum with random phase shifts.

    The shifts are equal in all channels.
    """
    # The phases of a real image's spectrum are odd, so the result is real, too.
    noise = generator.standard_normal(image.shape[:2])
    phase_shifts = np.angle(np.fft.fft2(noise))
    phase_shifts[0, 0] = 0  # Keeps the mean.

    spectrum = np.fft.fft2(image, axes=(0, 1))
    scrambled = spectrum * np.exp(1j * phase_shifts)[..., None]
    return np.asarray(np.fft.ifft2(scrambled, axes=(0, 1)).real)


def _patch_shuffled(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the image with its 4 x 4 patches in random order.

    Rows and columns that are left over at the lower and right border do not move.
    """
    channels = image.shape[2]
    patch_height = image.shape[0] // PATCHES
    patch_width = image.shape[1] // PATCHES
    covered_rows = slice(patch_height * PATCHES)
    covered_columns = slice(patch_width * PATCHES)
    covered = image[covered_rows, covered_columns]

    # (rows of patches, columns of patches, patch height, patch width, channels)
    blocks = covered.reshape(PATCHES, patch_height, PATCHES, patch_width, channels)
    grid = blocks.swapaxes(1, 2)
    patches = grid.reshape(PATCHES**2, patch_height, patch_width, channels)

    order = generator.permutation(PATCHES**2)
    shuffled = patches[order].reshape(grid.shape)

    result = image.copy()
    result[covered_rows, covered_columns] = shuffled.swapaxes(1, 2).reshape(covered.shape)
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
"""Functions by the name of the kind of images that they make.

Each takes an image, (H, W, C) float32 in [0, 1], and its generator, and returns one of no class.
"""


@dataclass(frozen=True)
class Unfamiliar:
    """Turn each image into one of no class, of a `kind` of `UNFAMILIAR`, rounded to 8 bits.

    The random state depends only on the pixels of the image.

    Raises:
        ValueError: The kind is unknown.

    >>> Unfamiliar("patch-shuffled").in_words()
    'patch shuffled'
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in UNFAMILIAR:
            expected = ", ".join(UNFAMILIAR)
            raise ValueError(f"kind {self.kind!r} is unknown; expected one of {expected}")

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images of no class, (N, C, H, W) like the input, pixels in [0, 1]."""
        make_unfamiliar = one_by_one(UNFAMILIAR[self.kind])
        return changed_alike(images, self.kind, make_unfamiliar)

    def in_words(self) -> str:
        """Return the kind as text."""
        return self.kind.replace("-", " ")
