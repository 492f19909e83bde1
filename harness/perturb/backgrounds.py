"""Interventions on the content of an image: another background, an erased object, or a black half.

Attention maps alone prove little, since random networks also look at the center. The causal test is the prediction: it
must stay when the background changes, and change when the object disappears. Backgrounds of other images follow
ImageNet-9's "Mixed" sets (Xiao et al. 2020, "Noise or Signal", section 2).
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

    Behind = Callable[[slice], np.ndarray]
    """Returns the backgrounds of a part of the images, (M, C, H, W) levels; called once for each part, in order."""


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
        return Shown(
            self.changed.pixels[position], f"{self.what}, image {position} of {self.changed.sha256}"
        )


@dataclass(frozen=True, eq=False)
class Shown:
    """A perturbation that replaces any image by one picture, (C, H, W) uint8."""

    picture: Tensor
    what: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the picture for each image, (N, C, H, W) in [0, 1]."""
        return (self.picture.to(images.device).float() / 255).expand_as(images)

    def __repr__(self) -> str:
        return f"Shown({self.what})"

    def in_words(self) -> str:
        """Return a description of the change."""
        return self.what.partition(", image ")[0].removesuffix(" 1")


def with_background(
    images: LabelledImages,
    masks: np.ndarray,
    kind: str | None,
    *,
    strength: float | None = None,
    seed: int = 0,
) -> Intervention:
    """Replace the background outside of the masks, (N, H, W) bool, with the weight `strength` (default 1).

    `kind` is one of `BACKGROUNDS`. The same seed and images give the same pictures.
    """
    if kind is None or kind not in BACKGROUNDS:
        raise InputError(
            f"background {kind!r} is unknown; expected one of {', '.join(BACKGROUNDS)}"
        )
    strength = 1.0 if strength is None else strength
    behind = BACKGROUNDS[kind](images, masks, np.random.default_rng(seed))

    def changed(part: slice) -> np.ndarray:
        own = np.asarray(images.pixels[part], dtype=np.float32)
        mixed = (1 - strength) * own + strength * behind(part).astype(np.float32)
        return np.where(masks[part, None], own, mixed).round().astype(np.uint8)

    return _intervention(images, changed, f"background {kind} {strength:g}")


def without_object(images: LabelledImages, masks: np.ndarray) -> Intervention:
    """Erase the objects: each mask, (N, H, W) bool, gets the color of its image's background.

    This color is the median of the pixels outside of the mask, or that of the plain background if the mask covers all.
    """

    def changed(part: slice) -> np.ndarray:
        pixels = np.asarray(images.pixels[part], dtype=np.float32)
        outside = np.where(masks[part, None], np.nan, pixels).reshape(*pixels.shape[:2], -1)
        covered = np.isnan(outside).all(axis=(1, 2))
        if covered.any():
            outside[covered] = background(images)[:, None]
        colours = np.nanmedian(outside, axis=2)[..., None, None]
        return np.where(masks[part, None], colours, pixels).round().astype(np.uint8)

    return _intervention(images, changed, "object erased")


def _intervention(
    images: LabelledImages, changed: Callable[[slice], np.ndarray], what: str
) -> Intervention:
    shape = tuple(images.pixels.shape)
    parts = parts_of(len(images), math.prod(shape[1:]) * _WORK_BYTES)
    return Intervention(images, replace(images, pixels=gathered(map(changed, parts), shape)), what)


def _noise(images: LabelledImages, _masks: np.ndarray, rng: np.random.Generator) -> Behind:
    """Return uniform and independent levels for each pixel and channel."""
    return lambda part: rng.integers(0, 256, (part.stop - part.start, *images.pixels.shape[1:]))


def _texture(images: LabelledImages, _masks: np.ndarray, rng: np.random.Generator) -> Behind:
    """Return sine gratings of random direction, phase and wavelength (3 to 8 pixels), equal in all channels."""
    count, channels, height, width = images.pixels.shape
    angle, phase = (
        np.pi * rng.uniform(0, 1, (count, 1, 1)),
        np.pi * rng.uniform(0, 2, (count, 1, 1)),
    )
    wavelength = rng.uniform(3, 8, (count, 1, 1))
    rows, columns = np.mgrid[:height, :width]

    def behind(part: slice) -> np.ndarray:
        along = np.cos(angle[part]) * columns + np.sin(angle[part]) * rows
        grating = 127.5 * (1 + np.sin(2 * np.pi * along / wavelength[part] + phase[part]))
        return np.repeat(grating[:, None], channels, axis=1)

    return behind


def _other(
    images: LabelledImages, masks: np.ndarray, rng: np.random.Generator, *, whole: bool
) -> Behind:
    """Return an image of another class, `whole` or with the image's own background behind that image's object."""
    import torch

    others = _of_other_classes(images, rng)

    def behind(part: slice) -> np.ndarray:
        theirs = images.pixels[torch.from_numpy(others[part])].numpy()
        return (
            theirs
            if whole
            else np.where(masks[others[part]][:, None], images.pixels[part].numpy(), theirs)
        )

    return behind


def _of_other_classes(images: LabelledImages, rng: np.random.Generator) -> np.ndarray:
    """Draw for each image the position of one of another class, (N,) int64."""
    labels = images.labels.numpy()
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], labels, side="right")
    others = len(labels) - np.bincount(labels)[labels]
    if not others.all():
        raise NotApplicableError("backgrounds of another class: all images are of one class")
    return np.asarray(order[(ends + rng.integers(0, others)) % len(labels)])


BACKGROUNDS: Mapping[str, Callable[[LabelledImages, np.ndarray, np.random.Generator], Behind]] = {
    "noise": _noise,
    "texture": _texture,
    "swapped": partial(_other, whole=False),
    "clutter": partial(_other, whole=True),
}
"""Backgrounds by their name in a check."""
