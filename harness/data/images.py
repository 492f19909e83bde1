"""Labeled images as one tensor, with object masks, the validation split and stratified samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from harness.base.errors import InputError, NotApplicableError, PipelineError
from harness.data.domain import Domain
from harness.data.rows import in_parts, take_rows
from harness.data.strata import Strata, allocation, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from torch import Tensor

    from harness.data.pictures import Origin
    from harness.data.pipeline import Pipeline


DIFFERS = 16
"""Least difference from the background in some channel of an object's pixel, in levels of 255."""
MIN_PLAIN = 2 / 3
"""Least share of border pixels with the background's color for a plain background."""
MIN_PIXELS = 4
"""Size of the smallest spot after closing; smaller ones are noise."""


@lru_cache(maxsize=8)
def object_masks(images: LabelledImages) -> np.ndarray:
    """Return the object mask of each image, (N, H, W) bool; read-only, since the result is cached.

    The data's own masks count if they have any. Else these are the pixels that differ from the background, closed
    (3 x 3), with small spots removed and holes filled. Raises `NotApplicableError` for images without masks and without
    a plain background.
    """
    if images.masks is not None:
        masks = images.masks.numpy().astype(bool, copy=False).view()
    else:
        colour, masks = (
            background(images),
            np.empty((len(images), *images.pixels.shape[2:]), dtype=bool),
        )
        for part, pixels in in_parts(images.pixels):
            differs = _distance(pixels.permute(0, 2, 3, 1).numpy(), colour) > DIFFERS
            masks[part] = np.stack([_whole(picture) for picture in differs.astype(np.uint8)])
    masks.flags.writeable = False
    return masks


def background(images: LabelledImages) -> np.ndarray:
    """Return the color of the plain background, (C,) uint8: the median of the border pixels of all images.

    Raises `NotApplicableError` if fewer than two thirds of these pixels have about this color.
    """
    parts = (part.permute(0, 2, 3, 1).numpy() for _, part in in_parts(images.pixels))
    sides = (
        side
        for part in parts
        for side in (part[:, 0], part[:, -1], part[:, 1:-1, 0], part[:, 1:-1, -1])
    )
    border = np.concatenate([side.reshape(-1, side.shape[-1]) for side in sides])
    colour = np.asarray(np.median(border, axis=0).round().astype(np.uint8))
    plain = float((_distance(border, colour) <= DIFFERS).mean())
    if plain < MIN_PLAIN:
        raise NotApplicableError(
            f"object masks: the background of {images.name} is not plain: {plain:.0%} of the border pixels have one "
            f"color, expected at least {MIN_PLAIN:.0%}. Add masks to the data: `masks` in an npz file"
        )
    return colour


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Return the largest difference over the channels of pixels (..., C) from a color (C,), in levels."""
    return np.asarray(np.abs(pixels.astype(np.int16) - colour.astype(np.int16)).max(axis=-1))


def _whole(differs: np.ndarray) -> np.ndarray:
    """Return the object mask of one image, (H, W) bool, from its pixels that differ, (H, W) uint8."""
    import cv2

    # With a margin, the image border closes no gap, and the background around the object is connected.
    framed = np.pad(differs, 2)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    large = statistics[:count, cv2.CC_STAT_AREA] >= MIN_PIXELS
    large[0] = False  # Part 0 is the background.
    return np.asarray(large[parts][2:-2, 2:-2])


def content_sha256(pixels: Tensor, labels: Tensor, masks: Tensor | None) -> str:
    """Return a SHA-256 over the pixels, then the labels (int64, little-endian), then the masks if any (bytes)."""
    digest = hashlib.sha256()
    for held in (pixels, labels, masks):
        for _, part in () if held is None else in_parts(held):
            array = np.ascontiguousarray(part)
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their true classes.

    `pixels` is (N, C, H, W) uint8, 0 to 255. `labels` is (N,) int64, an index into `classes`. `indices` is (N,) int64,
    each image's position in the full split; reports name images by it. `masks` is (N, H, W) bool, true on the object,
    for data that have masks; `harness.data.images` makes them for others.

    Pixels and masks of many images are `Rows`, which stay on disk. `pixels[positions]` reads some of them; any other
    operation of a tensor needs memory for all.

    `notes` are lines about how the images were read. `pipeline` describes the steps from pictures to pixels.
    `normalization`, (mean, std) of each channel, is the last step of their pipeline, which the network takes over.
    `groups` gives the group of each image by column, such as camera, as (N,) text. A sample with unequal weights has
    `strata`. The `domain` says how far images are rotated and shifted, and what then stands outside of them.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    split: str
    indices: Tensor | None = None
    masks: Tensor | None = None
    notes: tuple[str, ...] = ()
    pipeline: str = ""
    normalization: tuple[Sequence[float], Sequence[float]] | None = None
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    strata: Strata | None = None
    domain: Domain = field(default_factory=Domain)
    origin: Origin | None = field(default=None, repr=False)
    """The pictures behind the images; None if only the pixels are known."""
    source: str = ""
    """The file or folder that they were loaded from, empty if unknown."""
    hashed: tuple[Tensor, Tensor, Tensor | None, str] | None = field(default=None, repr=False)
    """The pixels, labels and masks that were hashed, and the hash, so a change of class names needs no new one."""

    def __post_init__(self) -> None:
        held = self.pixels, self.labels, self.masks
        if self.hashed is not None and any(
            one is not other for one, other in zip(held, self.hashed, strict=False)
        ):
            object.__setattr__(self, "hashed", None)  # It would hold the former pixels.

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """SHA-256 over the pixels, then the labels (int64, little-endian), then the masks if there are any (bytes)."""
        if self.hashed is None:
            held = self.pixels, self.labels, self.masks
            object.__setattr__(self, "hashed", (*held, content_sha256(*held)))
        return self.hashed[3]  # type: ignore[index]

    @property
    def positions(self) -> Tensor:
        """Return each image's position in the full split, (N,) int64."""
        import torch

        return torch.arange(len(self)) if self.indices is None else self.indices

    def take(self, positions: Tensor) -> LabelledImages:
        """Return the images at these positions, (M,) int64; the pixels of many images stay on disk."""
        return replace(
            self,
            pixels=take_rows(self.pixels, positions),
            labels=self.labels[positions],
            indices=self.positions[positions],
            masks=None if self.masks is None else take_rows(self.masks, positions),
            groups={name: values[positions.numpy()] for name, values in self.groups.items()},
            strata=None if self.strata is None else self.strata.take(positions.numpy()),
        )


def spread_positions(count: int, most: int) -> list[int]:
    """Return at most so many positions below a count, spread over all."""
    return sorted(set(np.linspace(0, count - 1, most).astype(int).tolist()))


def unit_range(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels to float32 in [0, 1], the range that perturbations and models take."""
    return pixels.float() / 255


def split_validation(
    images: LabelledImages, *, size: int, seed: int
) -> tuple[LabelledImages, LabelledImages]:
    """Split off `size` random images for validation; returns (training, validation) images.

    Raises `InputError` unless 0 < size < number of images.
    """
    import torch

    if not 0 < size < len(images):
        fitting = f"{len(images)} training images; use a size between 1 and {len(images) - 1}"
        raise InputError(f"a validation split of {size} images does not fit {fitting}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.take(order[size:].sort().values), images.take(order[:size].sort().values)


_samples: WeakKeyDictionary[LabelledImages, WeakValueDictionary[Hashable, LabelledImages]] = (
    WeakKeyDictionary()
)


def stratified_sample(images: LabelledImages, size: int, *, seed: int = 0) -> LabelledImages:
    """Return `size` images in their original order, with each class's share kept to within one image.

    Of a sample with strata, it is each stratum's share, and at least one image of each. While a sample is in use,
    another call returns the same object, so caches hold its pixels once. Raises `InputError` unless 1 <= size <= number
    of images.
    """
    import torch

    expect_size(images, size)

    def chosen() -> LabelledImages:
        rng = np.random.default_rng(seed)
        labels = images.labels.numpy() if images.strata is None else images.strata.of
        present, counts = np.unique(labels, return_counts=True)
        # Largest remainders (Hamilton's method) keep every class within one image; the seed breaks ties.
        exact = counts * size / len(labels)
        quota = np.floor(exact).astype(int)
        lots = rng.permutation(len(present))
        quota[np.lexsort((lots, -(exact - quota).round(9)))[: size - quota.sum()]] += 1
        for empty in np.flatnonzero(quota == 0) if images.strata else ():
            quota[[empty, quota.argmax()]] += 1, -1
        members = [
            rng.permutation(np.flatnonzero(labels == label))[:n]
            for label, n in zip(present, quota, strict=True)
        ]
        return images.take(torch.from_numpy(np.sort(np.concatenate(members))))

    return _once(images, (size, seed), chosen)


def weighted_sample(
    images: LabelledImages,
    size: int,
    *,
    of: np.ndarray,
    unseen: np.ndarray,
    deviations: np.ndarray,
    seed: int,
) -> LabelledImages:
    """Return a sample of `size` images in their original order, by Neyman's allocation, with its strata.

    `of` and `unseen`, (N,) int64, are strata as in `Strata`, and `deviations`, (H,), the standard deviation expected
    in each. Raises `InputError` as `stratified_sample` does, and returns the same object again.
    """
    import torch

    expect_size(images, size)

    def chosen() -> LabelledImages:
        sizes = np.bincount(of, minlength=len(deviations))
        at = draw(of, allocation(sizes, deviations, size), images.labels.numpy(), seed=seed)
        return replace(images.take(torch.from_numpy(at)), strata=Strata(of[at], sizes, unseen[at]))

    return _once(images, (size, seed, of.tobytes(), unseen.tobytes()), chosen)


def expect_size(images: LabelledImages, size: int) -> None:
    """Raise `InputError` unless 1 <= size <= number of images."""
    if not 1 <= size <= len(images):
        count = len(images)
        raise InputError(
            f"a sample of {size} images does not fit {count} images; use a size between 1 and {count}"
        )


def _once(
    images: LabelledImages, key: Hashable, chosen: Callable[[], LabelledImages]
) -> LabelledImages:
    samples = _samples.setdefault(images, WeakValueDictionary())
    if (known := samples.get(key)) is None:
        samples[key] = known = chosen()
    return known


def sample_up_to(images: LabelledImages, size: int) -> LabelledImages:
    """Return a stratified sample of `size` images, or all images if they are no more."""
    return images if len(images) <= size else stratified_sample(images, size)


def one_in(step: int, images: LabelledImages) -> LabelledImages:
    """Return a fixed stratified sample of one in `step` of the images, at least one image."""
    return stratified_sample(images, max(len(images) // step, 1))


def pixels_like(
    images: LabelledImages, content: bytes, pipeline: Pipeline, *, where: str
) -> np.ndarray:
    """Return the pixels of an encoded picture after the pipeline, (C, H, W) uint8, in the shape of `images`.

    Unless the pipeline sets the channels, they are those of the images. Raises `InputError`, which names `where`, for
    bytes in no documented format and for pixels of another size.
    """
    channels, height, width = images.pixels.shape[1:]
    pipeline = pipeline.but("color", channels=pipeline.color.channels or channels)
    pixels = pipeline.picture(content, where=where).pixels.transpose(2, 0, 1)
    if pixels.shape != (channels, height, width):
        made = f"of {pixels.shape[1]}x{pixels.shape[2]} pixels"
        raise PipelineError(
            f"{where}: is {made}, the images of the data are {height}x{width} (channels: {channels}). Give a picture "
            "of that size, or set the pipeline (size, resize, transform)"
        )
    return np.ascontiguousarray(pixels)


def labelled_like(
    images: LabelledImages, pixels: Sequence[np.ndarray], labels: Sequence[int], *, name: str
) -> LabelledImages:
    """Return pixels, each (C, H, W) uint8, as labeled images with the classes and pipeline of `images`."""
    import torch

    held = torch.from_numpy(np.stack(pixels)), torch.tensor(labels, dtype=torch.int64)
    how = {
        "pipeline": images.pipeline,
        "normalization": images.normalization,
        "domain": images.domain,
    }
    return LabelledImages(*held, images.classes, name, images.split, **how)  # type: ignore[arg-type]
