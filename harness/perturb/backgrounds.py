"""Interventions on the content of an image: another background, or an erased object.

Attention maps alone prove little, since random networks also look at the center. The causal test is
the prediction: it must stay when the background changes, and change when the object disappears.
Backgrounds of other images follow ImageNet-9's "Mixed" sets (Xiao et al. 2020, "Noise or Signal",
section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.data.images import background
from harness.data.rows import gathered, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from harness.data import LabelledImages

    BackgroundsOf = Callable[[slice], np.ndarray]
    """Returns the backgrounds of a part of the images, (M, C, H, W) levels.

    It is called once for each part, in order, because it may draw random numbers.
    """


_WORK_BYTES = 24
"""Bytes of memory to change one byte of an image: a few copies in float32 or float64."""


@dataclass(frozen=True, eq=False)
class Intervention:
    """Clean images and their changed versions, for pictures of both."""

    images: LabelledImages
    changed: LabelledImages
    what: str

    def perturbation_of(self, position: int) -> Shown:
        """Return the perturbation that shows the changed image at this position."""
        picture = self.changed.pixels[position]
        return Shown(picture, f"{self.what}, image {position} of {self.changed.sha256}")


@dataclass(frozen=True, eq=False)
class Shown:
    """A perturbation that replaces any image by one picture, (C, H, W) uint8."""

    picture: Tensor
    what: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the picture for each image, (N, C, H, W) in [0, 1]."""
        pixels = self.picture.to(images.device).float() / 255
        return pixels.expand_as(images)

    def __repr__(self) -> str:
        return f"Shown({self.what})"

    def in_words(self) -> str:
        """Return a description of the change."""
        change = self.what.partition(", image ")[0]
        return change.removesuffix(" 1")


def with_background(
    images: LabelledImages,
    masks: np.ndarray,
    kind: str | None,
    *,
    strength: float | None = None,
    seed: int = 0,
) -> Intervention:
    """Replace the background of images, that is, the pixels outside of the masks.

    Args:
        images: The images to change.
        masks: The object of each image, (N, H, W) bool.
        kind: One of `BACKGROUNDS`.
        strength: Weight of the new background, in [0, 1]; 1 by default.
        seed: The same seed and images give the same pictures.

    Raises:
        InputError: The kind is unknown.
    """
    if kind is None or kind not in BACKGROUNDS:
        expected = ", ".join(BACKGROUNDS)
        raise InputError(f"background {kind!r} is unknown; expected one of {expected}")
    if strength is None:
        strength = 1.0
    new_backgrounds = BACKGROUNDS[kind](images, masks, np.random.default_rng(seed))

    def changed(part: slice) -> np.ndarray:
        own = np.asarray(images.pixels[part], dtype=np.float32)
        mixed = (1 - strength) * own + strength * new_backgrounds(part).astype(np.float32)
        return np.where(masks[part, None], own, mixed).round().astype(np.uint8)

    return _intervention(images, changed, f"background {kind} {strength:g}")


def without_object(images: LabelledImages, masks: np.ndarray) -> Intervention:
    """Erase the objects: each mask gets the color of its image's background.

    This color is the median of the pixels outside of the mask, or that of the plain background if
    the mask covers the whole image.

    Args:
        images: The images to change.
        masks: The object of each image, (N, H, W) bool.
    """

    def changed(part: slice) -> np.ndarray:
        pixels = np.asarray(images.pixels[part], dtype=np.float32)
        outside = np.where(masks[part, None], np.nan, pixels)
        outside = outside.reshape(*pixels.shape[:2], -1)

        covered = np.isnan(outside).all(axis=(1, 2))
        if covered.any():
            outside[covered] = background(images)[:, None]

        colors = np.nanmedian(outside, axis=2)[..., None, None]
        return np.where(masks[part, None], colors, pixels).round().astype(np.uint8)

    return _intervention(images, changed, "object erased")


def _intervention(
    images: LabelledImages, changed: Callable[[slice], np.ndarray], what: str
) -> Intervention:
    shape = tuple(images.pixels.shape)
    bytes_per_image = math.prod(shape[1:]) * _WORK_BYTES
    parts = parts_of(len(images), bytes_per_image)
    changed_pixels = gathered(map(changed, parts), shape)
    return Intervention(images, replace(images, pixels=changed_pixels), what)


def _noise(images: LabelledImages, _masks: np.ndarray, rng: np.random.Generator) -> BackgroundsOf:
    """Return uniform and independent levels for each pixel and channel."""

    def backgrounds(part: slice) -> np.ndarray:
        count = part.stop - part.start
        return rng.integers(0, 256, (count, *images.pixels.shape[1:]))

    return backgrounds


def _texture(images: LabelledImages, _masks: np.ndarray, rng: np.random.Generator) -> BackgroundsOf:
    """Return sine gratings of random direction, phase and wavelength, equal in all channels.

    The wavelength is 3 to 8 pixels.
    """
    count, channels, height, width = images.pixels.shape
    angles = np.pi * rng.uniform(0, 1, (count, 1, 1))
    phases = np.pi * rng.uniform(0, 2, (count, 1, 1))
    wavelengths = rng.uniform(3, 8, (count, 1, 1))
    rows, columns = np.mgrid[:height, :width]

    def backgrounds(part: slice) -> np.ndarray:
        distances = np.cos(angles[part]) * columns + np.sin(angles[part]) * rows
        waves = np.sin(2 * np.pi * distances / wavelengths[part] + phases[part])
        gratings = 127.5 * (1 + waves)
        return np.repeat(gratings[:, None], channels, axis=1)

    return backgrounds


def _other_image(
    images: LabelledImages, masks: np.ndarray, rng: np.random.Generator, *, whole: bool
) -> BackgroundsOf:
    """Return an image of another class as the background.

    It is the `whole` image, or the image without its object, which the image's own background
    replaces.
    """
    import torch

    others = _of_other_classes(images, rng)

    def backgrounds(part: slice) -> np.ndarray:
        other_positions = others[part]
        other_pixels = images.pixels[torch.from_numpy(other_positions)].numpy()
        if whole:
            return other_pixels
        other_masks = masks[other_positions][:, None]
        return np.where(other_masks, images.pixels[part].numpy(), other_pixels)

    return backgrounds


def _of_other_classes(images: LabelledImages, rng: np.random.Generator) -> np.ndarray:
    """Draw for each image the position of one of another class, (N,) int64."""
    labels = images.labels.numpy()
    others_count = len(labels) - np.bincount(labels)[labels]
    if not others_count.all():
        raise NotApplicableError("backgrounds of another class: all images are of one class")

    # With the images sorted by class, those of other classes follow the end of the own class, and
    # continue at the start of the order.
    by_class = np.argsort(labels, kind="stable")
    ends_of_class = np.searchsorted(labels[by_class], labels, side="right")
    steps = rng.integers(0, others_count)
    return np.asarray(by_class[(ends_of_class + steps) % len(labels)])


BACKGROUNDS: Mapping[
    str, Callable[[LabelledImages, np.ndarray, np.random.Generator], BackgroundsOf]
] = {
    "noise": _noise,
    "texture": _texture,
    "swapped": partial(_other_image, whole=False),
    "clutter": partial(_other_image, whole=True),
}
"""Backgrounds by their name in a check."""
