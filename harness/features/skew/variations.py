"""Pipelines beside the catalog: other parameters of one stage, and the neighbors of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from harness.data.image_files import Jpeg, Subsampling
from harness.data.stages import FILTERS, Resize
from harness.features.skew.resizing import last_resize, resized_by, stretched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.data.pipeline import Pipeline

_MOVES = (
    (-1, 0),
    (0, -1),
    (2, 0),
    (-2, 0),
    (0, 2),
    (0, -2),
    (-1, -1),
    (1, -1),
    (-1, 1),
    (2, 2),
    (-2, -2),
)
_DIVISORS = (1.0, 127.5, 255.0**2, *(255 * factor for factor in (0.8, 0.92, 1.08, 1.25)))
_FILTERED = (
    ("opencv", "bilinear"),
    ("opencv", "area"),
    ("opencv", "nearest"),
    ("pillow", "bicubic"),
)
_SIZES = (0.87, 0.93, 1.04, 1.07, 1.1, 1.15, 1.2, 1.25, 1.3)
_STEPS = (0.8, 1.25, 0.94, 1.06, 0.985, 1.015, 0.996, 1.004)
_MIDDLES = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.15, 1.3)
"""Middles of pictures: shares of each side, and from 1 on sides of squares.

The latter are factors of the images' shorter side.
"""
_STRETCHES = (0.8, 0.875, 0.94, 1.06, 1.25)
"""Factors of one side of a picture; those below 1 leave a margin."""
_SHARE = 0.015
"""Step of the share of a picture that is cropped before resizing, for a pixel of a size."""


def variations(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield pipelines with other parameters of one stage than the catalog has.

    `size` is the (height, width) of the images.
    """
    for quality in (90, 65, 50, 35, 20):
        yield replace(reference, jpeg=Jpeg(quality))
    for gamma in (0.6, 0.75, 0.9, 1.1, 1.3, 1.7):
        yield reference.but("color", gamma=gamma)
    for right, down in _MOVES:
        yield reference.but("crop", right=right, down=down)
    for bits in (7, 5, 4, 3):
        yield reference.but("scale", bits=bits)
    for divisor in _DIVISORS:
        yield reference.but("scale", divisor=divisor)
    yield from _normalised(reference)
    if reference.transform is None:
        yield from _resized(reference, size)


def neighbors(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield pipelines one step away in the stages in which a pipeline differs from the reference.

    Long steps come before short ones.
    """
    differing = pipeline.differing(reference)
    in_color = reference.color.channels != 1
    if "jpeg" in differing:
        yield from _other_jpegs(pipeline, in_color=in_color)
    if "color" in differing and pipeline.color.gamma != 1:
        for factor in _STEPS:
            yield pipeline.but("color", gamma=pipeline.color.gamma * factor)
    if pipeline.resize:
        if "jpeg" in differing and pipeline.jpeg is not None:
            yield pipeline.but("jpeg", late=not pipeline.jpeg.late)
        if "color" in differing:
            yield pipeline.but("color", late=not pipeline.color.late)
    yield from _other_crops(pipeline, reference)
    yield from _other_scales(pipeline, reference)
    if "normalise" in differing:
        yield from _normalised(pipeline)
    if "resize" in differing and pipeline.resize and pipeline.transform is None:
        yield from _resized_nearby(pipeline)


def _other_jpegs(pipeline: Pipeline, *, in_color: bool) -> Iterator[Pipeline]:
    """Yield other qualities, and other subsamplings of color pictures."""
    if pipeline.jpeg is None:
        return
    for step in (-12, 12, -4, 4, -1, 1):
        quality = pipeline.jpeg.quality + step
        if 1 <= quality <= 100:  # noqa: PLR2004  The range of JPEG.
            yield pipeline.but("jpeg", quality=quality)
    if in_color:
        for subsampling in get_args(Subsampling):
            yield pipeline.but("jpeg", subsampling=subsampling)


def _other_crops(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield crops moved by a pixel, if the pipeline's is moved."""
    crop = pipeline.crop
    if (crop.right, crop.down) == (reference.crop.right, reference.crop.down):
        return
    for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        yield pipeline.but("crop", right=crop.right + right, down=crop.down + down)


def _other_scales(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield other divisors and offsets, if the pipeline has others than the reference."""
    scale = pipeline.scale
    if scale.divisor != reference.scale.divisor:
        for factor in (0.9, 1.1, 0.98, 1.02, 0.996, 1.004):
            yield pipeline.but("scale", divisor=scale.divisor * factor)
    if scale.offset != reference.scale.offset:
        for step in (-0.05, 0.05, -0.01, 0.01, -0.002, 0.002):
            yield pipeline.but("scale", offset=scale.offset + step)


def _normalised(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield other means and standard deviations."""
    for step in (-0.1, 0.1, -0.02, 0.02, -0.005, 0.005):
        mean = tuple(value + step for value in pipeline.normalise.mean)
        yield pipeline.but("normalise", mean=mean)
    for factor in _STEPS:
        std = tuple(value * factor for value in pipeline.normalise.std)
        yield pipeline.but("normalise", std=std)


def _resized(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield other sizes and parts of pictures, by several filters.

    Where nothing is resized, pictures also take detours by another size and back.
    """
    for factor in _STRETCHES:
        yield stretched(reference, size, (factor, 1.0))
        yield stretched(reference, size, (1.0, factor))
    for resize in _other_resizes(reference, size):
        other = replace(reference, resize=resize).but("crop", size=size)
        yield other
        for library, filtered in _FILTERED:
            yield resized_by(other, library, filtered)


def _other_resizes(reference: Pipeline, size: tuple[int, int]) -> Iterator[tuple[Resize, ...]]:
    """Yield the resizings to other sizes and of other parts."""
    height, width = size
    shorter = min(size)
    last = last_resize(reference, size)
    side = shorter
    if isinstance(last.size, int):
        side = last.size
    sides = [round(side * factor) for factor in _SIZES]
    for new_side in sides:
        yield (replace(last, size=new_side, side="shorter"),)
    if reference.resize:
        for new_side in sides:
            new_size = (new_side * height // shorter, new_side * width // shorter)
            yield (replace(last, size=new_size),)
    for middle in _MIDDLES:
        if middle < 1:
            yield (replace(last, size=size, middle=middle),)
        else:
            yield (replace(last, size=size, middle=round(shorter * middle)),)
    if not reference.resize:
        for factor in (0.5, 0.75, 2.0):
            detour = Resize((round(height * factor), round(width * factor)))
            yield detour, last


def _resized_nearby(pipeline: Pipeline) -> Iterator[Pipeline]:
    """Yield sizes, parts, factors and filters one step away."""
    following = pipeline.resize[1:]
    for resize in _resizes_nearby(pipeline):
        yield replace(pipeline, resize=(resize, *following))
    for library, filters in FILTERS.items():
        for filtered in filters:
            yield resized_by(pipeline, library, filtered)


def _resizes_nearby(pipeline: Pipeline) -> Iterator[Resize]:
    """Yield the first resizing of a pipeline with a parameter one step away."""
    first = pipeline.resize[0]
    if first.stretch != (1.0, 1.0):
        for factors in _stretches_nearby(first.stretch):
            yield replace(first, stretch=factors)
        return
    if pipeline.crop.size and first.middle == 1:
        if isinstance(first.size, int):
            yield replace(first, size=(first.size, first.size))
        else:
            yield replace(first, size=min(first.size))
    for step in (-4, 4, -1, 1):
        if first.middle > 1:
            yield replace(first, middle=first.middle + step)
        elif first.middle < 1:
            yield replace(first, middle=first.middle + step * _SHARE)
        elif isinstance(first.size, int):
            yield replace(first, size=first.size + step)
        elif len(pipeline.resize) > 1 or pipeline.crop.size:
            height, width = first.size
            yield replace(first, size=(height + step, width + step))


def _stretches_nearby(factors: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Yield factors one step away.

    The other side keeps its factor, since both together are another size.
    """
    vertical, horizontal = factors
    for step in (-0.04, 0.04, -0.01, 0.01):
        if vertical != 1:
            yield vertical + step, 1.0
        else:
            yield 1.0, horizontal + step
