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
"""Largest difference from the background in any channel, in levels of 255, of its own pixels."""
MIN_PLAIN = 2 / 3
"""Least share of border pixels with the background's color for a plain background."""
MIN_PIXELS = 4
"""Size of the smallest spot after closing; smaller ones are noise."""


@lru_cache(maxsize=8)
def object_masks(images: LabelledImages) -> np.ndarray:
    """Return the object mask of each image, (N, H, W) bool; read-only, since the result is cached.

    The data's own masks count if they have any. Else these are the pixels that differ from the
    background, closed (3 x 3), with small spots removed and holes filled. Raises
    `NotApplicableError` for images without masks and without a plain background.
    """
    if images.masks is not None:
        masks = images.masks.numpy().astype(bool, copy=False).view()
    else:
        masks = _masks_by_background(images)
    masks.flags.writeable = False
    return masks


def _masks_by_background(images: LabelledImages) -> np.ndarray:
    color = background(images)
    masks = np.empty((len(images), *images.pixels.shape[2:]), dtype=bool)
    for part, pixels in in_parts(images.pixels):
        distances = _distance(pixels.permute(0, 2, 3, 1).numpy(), color)
        differs = (distances > DIFFERS).astype(np.uint8)
        masks[part] = np.stack([_object_mask(picture) for picture in differs])
    return masks


def background(images: LabelledImages) -> np.ndarray:
    """Return the color of the plain background, (C,) uint8: the median of all border pixels.

    Raises `NotApplicableError` if fewer than two thirds of these pixels have about this color.
    """
    borders = []
    for _, part in in_parts(images.pixels):
        pixels = part.permute(0, 2, 3, 1).numpy()
        sides = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
        borders += [side.reshape(-1, side.shape[-1]) for side in sides]
    border = np.concatenate(borders)
    color = np.asarray(np.median(border, axis=0).round().astype(np.uint8))

    plain = float((_distance(border, color) <= DIFFERS).mean())
    if plain < MIN_PLAIN:
        raise NotApplicableError(
            f"object masks: the background of {images.name} is not plain: {plain:.0%} of the "
            f"border pixels have one color, expected at least {MIN_PLAIN:.0%}. "
            "Add masks to the data: `masks` in an npz file"
        )
    return color


def _distance(pixels: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return the largest difference over the channels of pixels (..., C) from a color (C,)."""
    differences = np.abs(pixels.astype(np.int16) - color.astype(np.int16))
    return np.asarray(differences.max(axis=-1))


def _object_mask(differs: np.ndarray) -> np.ndarray:
    """Return the object mask of an image, (H, W) bool; `differs` are its other pixels, uint8."""
    import cv2

    # With a margin, the image border closes no gap, and the background is connected around the
    # object.
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
    """Return a SHA-256 over pixels, labels (int64, little-endian), and masks (bytes) if any."""
    digest = hashlib.sha256()
    for tensor in (pixels, labels, masks):
        if tensor is None:
            continue
        for _, part in in_parts(tensor):
            array = np.ascontiguousarray(part)
            little_endian = array.dtype.newbyteorder("<")
            digest.update(array.astype(little_endian, copy=False).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their true classes.

    Pixels and masks of many images are `Rows`, which stay on disk. `pixels[positions]` reads some
    of them; any other operation of a tensor needs memory for all.

    Attributes:
        pixels: (N, C, H, W) uint8, 0 to 255.
        labels: (N,) int64, indices into `classes`.
        classes: The names of the classes.
        name: The name of the data set.
        split: The name of the split.
        indices: Each image's position in the full split, (N,) int64, which names it in reports;
            None for 0 to N - 1.
        masks: (N, H, W) bool, true on the object, for data that have masks. `object_masks` makes
            them for others.
        notes: Lines about how the images were read.
        pipeline: The steps from pictures to pixels, as text.
        normalization: The mean and the standard deviation of each channel, the last step of their
            pipeline, which the network takes over.
        groups: The group of each image by column, such as camera, as (N,) text.
        strata: The strata of a sample with unequal weights.
        domain: How far images are rotated and shifted, and which pixels then stand outside of them.
        origin: The pictures behind the images; None if only the pixels are known.
        source: The file or folder that they were loaded from, empty if unknown.
        hashed: The pixels, labels and masks that were hashed, and the hash, so that a change of
            class names needs no new one.
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
    source: str = ""
    hashed: tuple[Tensor, Tensor, Tensor | None, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.hashed is None:
            return
        pixels, labels, masks, _ = self.hashed
        if pixels is self.pixels and labels is self.labels and masks is self.masks:
            return
        object.__setattr__(self, "hashed", None)  # It would hold the former pixels.

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sha256(self) -> str:
        """SHA-256 over pixels, labels (int64, little-endian), and masks (bytes) if any."""
        if self.hashed is None:
            content = self.pixels, self.labels, self.masks
            object.__setattr__(self, "hashed", (*content, content_sha256(*content)))
        return self.hashed[3]  # type: ignore[index]

    @property
    def positions(self) -> Tensor:
        """Return each image's position in the full split, (N,) int64."""
        import torch

        if self.indices is None:
            return torch.arange(len(self))
        return self.indices

    def take(self, positions: Tensor) -> LabelledImages:
        """Return the images at these positions, (M,) int64; pixels of many images stay on disk."""
        masks = self.masks
        if masks is not None:
            masks = take_rows(masks, positions)
        strata = self.strata
        if strata is not None:
            strata = strata.take(positions.numpy())
        return replace(
            self,
            pixels=take_rows(self.pixels, positions),
            labels=self.labels[positions],
            indices=self.positions[positions],
            masks=masks,
            groups={name: values[positions.numpy()] for name, values in self.groups.items()},
            strata=strata,
        )


def spread_positions(count: int, most: int) -> list[int]:
    """Return at most so many positions below a count, spread over all."""
    positions = np.linspace(0, count - 1, most).astype(int)
    return sorted(set(positions.tolist()))


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
        raise InputError(
            f"a validation split of {size} images does not fit {len(images)} training images; "
            f"use a size between 1 and {len(images) - 1}"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    training = images.take(order[size:].sort().values)
    validation = images.take(order[:size].sort().values)
    return training, validation


_samples: WeakKeyDictionary[LabelledImages, WeakValueDictionary[Hashable, LabelledImages]] = (
    WeakKeyDictionary()
)


def stratified_sample(images: LabelledImages, size: int, *, seed: int = 0) -> LabelledImages:
    """Return a sample in the original order that keeps each class's share to within one image.

    Of a sample with strata, it keeps each stratum's share, with at least one image of each. While a
    sample is in use, another call returns the same object, so that caches hold its pixels once.

    Raises:
        InputError: `size` is not from 1 to the number of images.
    """
    import torch

    expect_size(images, size)

    def draw_sample() -> LabelledImages:
        strata = images.labels.numpy()
        if images.strata is not None:
            strata = images.strata.of
        rng = np.random.default_rng(seed)
        present, counts = np.unique(strata, return_counts=True)
        quota = _proportional_quota(counts, size, rng)
        if images.strata is not None:
            for empty in np.flatnonzero(quota == 0):
                quota[quota.argmax()] -= 1
                quota[empty] += 1

        members = []
        for stratum, count in zip(present, quota, strict=True):
            shuffled = rng.permutation(np.flatnonzero(strata == stratum))
            members.append(shuffled[:count])
        return images.take(torch.from_numpy(np.sort(np.concatenate(members))))

    return _drawn_once(images, (size, seed), draw_sample)


def _proportional_quota(counts: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the images of each stratum, (H,) int64 with the sum `size`.

    Largest remainders (Hamilton's method) keep every stratum within one image of its share; `rng`
    breaks ties.
    """
    exact = counts * size / counts.sum()
    quota = np.asarray(np.floor(exact), dtype=int)
    lots = rng.permutation(len(counts))
    remainders = (exact - quota).round(9)
    by_remainder = np.lexsort((lots, -remainders))
    quota[by_remainder[: size - quota.sum()]] += 1
    return quota


def weighted_sample(
    images: LabelledImages,
    size: int,
    *,
    of: np.ndarray,
    unseen: np.ndarray,
    deviations: np.ndarray,
    seed: int,
) -> LabelledImages:
    """Return a sample in the original order, by Neyman's allocation, with its strata.

    Another call returns the same object, as with `stratified_sample`.

    Args:
        images: The images to draw from, N.
        size: The number of images to draw.
        of: The stratum of each image, (N,) int64, see `Strata`.
        unseen: Its stratum as other models define it, (N,) int64.
        deviations: The standard deviation that is expected in each stratum, (H,).
        seed: The seed of the draw.

    Raises:
        InputError: `size` is not from 1 to the number of images.
    """
    import torch

    expect_size(images, size)

    def draw_sample() -> LabelledImages:
        sizes = np.bincount(of, minlength=len(deviations))
        quota = allocation(sizes, deviations, size)
        positions = draw(of, quota, images.labels.numpy(), seed=seed)
        sample = images.take(torch.from_numpy(positions))
        return replace(sample, strata=Strata(of[positions], sizes, unseen[positions]))

    return _drawn_once(images, (size, seed, of.tobytes(), unseen.tobytes()), draw_sample)


def expect_size(images: LabelledImages, size: int) -> None:
    """Raise `InputError` unless 1 <= size <= number of images."""
    if not 1 <= size <= len(images):
        count = len(images)
        raise InputError(
            f"a sample of {size} images does not fit {count} images; "
            f"use a size between 1 and {count}"
        )


def _drawn_once(
    images: LabelledImages, key: Hashable, draw_sample: Callable[[], LabelledImages]
) -> LabelledImages:
    """Return the sample of these images with a key, drawn now unless it is in use."""
    samples = _samples.setdefault(images, WeakValueDictionary())
    sample = samples.get(key)
    if sample is None:
        sample = draw_sample()
        samples[key] = sample
    return sample


def sample_up_to(images: LabelledImages, size: int) -> LabelledImages:
    """Return a stratified sample of `size` images, or all images if they are no more."""
    if len(images) <= size:
        return images
    return stratified_sample(images, size)


def one_in(step: int, images: LabelledImages) -> LabelledImages:
    """Return a fixed stratified sample of one in `step` of the images, at least one image."""
    return stratified_sample(images, max(len(images) // step, 1))


def pixels_like(
    images: LabelledImages, content: bytes, pipeline: Pipeline, *, where: str
) -> np.ndarray:
    """Return the pixels of an encoded picture after the pipeline, in the shape of `images`.

    Args:
        images: The images whose shape the pixels must have.
        content: The bytes of the picture's file.
        pipeline: The pipeline; unless it sets the channels, they are those of the images.
        where: The name of the picture in messages.

    Returns:
        (C, H, W) uint8.

    Raises:
        InputError: The bytes are in no documented format, or the pixels are of another size.
    """
    channels, height, width = images.pixels.shape[1:]
    pipeline = pipeline.but("color", channels=pipeline.color.channels or channels)
    pixels = pipeline.picture(content, where=where).pixels.transpose(2, 0, 1)
    if pixels.shape != (channels, height, width):
        raise PipelineError(
            f"{where}: is of {pixels.shape[1]}x{pixels.shape[2]} pixels, the images of the data "
            f"are {height}x{width} (channels: {channels}). Give a picture of that size, "
            "or set the pipeline (size, resize, transform)"
        )
    return np.ascontiguousarray(pixels)


def labelled_like(
    images: LabelledImages, pixels: Sequence[np.ndarray], labels: Sequence[int], *, name: str
) -> LabelledImages:
    """Return pixels, each (C, H, W) uint8, as labeled images of the classes of `images`.

    They also have its split, pipeline, normalization and domain.
    """
    import torch

    return LabelledImages(
        pixels=torch.from_numpy(np.stack(pixels)),
        labels=torch.tensor(labels, dtype=torch.int64),
        classes=images.classes,
        name=name,
        split=images.split,
        pipeline=images.pipeline,
        normalization=images.normalization,
        domain=images.domain,
    )
