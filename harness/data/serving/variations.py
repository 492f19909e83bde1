"""Other values of a stage's parameters: a grid around a reference pipeline, and the neighbors of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from harness.data.serving.resizing import FILTERS, Resize, antialiasing
from harness.data.serving.stages import Jpeg, Normalise, Subsampling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.data.serving.pipeline import ServingPipeline
    from harness.data.serving.resizing import Filter

_QUALITIES = (90, 65, 50, 35, 20)
_GAMMAS = (0.6, 0.75, 0.9, 1.1, 1.3, 1.7)
_MOVES = ((-1, 0), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2), (-1, -1), (1, -1), (-1, 1), (2, 2), (-2, -2))
_BITS = (7, 5, 4, 3)
_FACTORS = (0.8, 0.92, 1.08, 1.25)
_DETOURS = (0.5, 0.75, 2.0)
_FILTERED = (("opencv", "bilinear"), ("opencv", "area"), ("opencv", "nearest"), ("pillow", "bicubic"))
_SIZES = (0.87, 0.93, 1.04, 1.07, 1.1, 1.15, 1.2, 1.25, 1.3)
_UNSCALED, _HALF, _TWICE = 1.0, 127.5, 255.0**2
_STEPS = (0.8, 1.25, 0.94, 1.06, 0.985, 1.015, 0.996, 1.004)
_PIXELS = (-4, 4, -1, 1)
_MIDDLES = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.15, 1.3)
"""Middles of pictures: shares of each side, and from 1 on the sides of squares over the images' shorter side."""
_SHARE = 0.015
"""Step of the share of a picture that is cropped before resizing, for a pixel of a size."""


def variations(reference: ServingPipeline, size: tuple[int, int]) -> Iterator[ServingPipeline]:
    """Yield pipelines with other parameters of one stage than the catalog has.

    `size` is the (height, width) of the images.
    """
    for quality in _QUALITIES:
        yield replace(reference, jpeg=Jpeg(quality))
    for gamma in _GAMMAS:
        yield replace(reference, color=replace(reference.color, gamma=gamma))
    for right, down in _MOVES:
        yield replace(reference, crop=replace(reference.crop, right=right, down=down))
    for bits in _BITS:
        yield replace(reference, scale=replace(reference.scale, bits=bits))
    for divisor in (_UNSCALED, _HALF, _TWICE, *(255 * factor for factor in _FACTORS)):
        yield replace(reference, scale=replace(reference.scale, divisor=divisor))
    yield from _normalised(reference)
    if reference.transform is None:
        yield from _resized(reference, size)


def neighbors(pipeline: ServingPipeline, reference: ServingPipeline) -> Iterator[ServingPipeline]:
    """Yield pipelines one step away in the parameters of the stages in which a pipeline differs from the reference.

    Long steps come before short ones.
    """
    differing = pipeline.differing(reference)
    if "jpeg" in differing and pipeline.jpeg is not None:
        for jpeg in _saved(pipeline.jpeg, color=reference.color.channels != 1):
            yield replace(pipeline, jpeg=jpeg)
    if "color" in differing and pipeline.color.gamma != 1:
        for step in _STEPS:
            yield replace(pipeline, color=replace(pipeline.color, gamma=pipeline.color.gamma * step))
    if "jpeg" in differing and pipeline.jpeg is not None and pipeline.resize:
        yield replace(pipeline, jpeg=replace(pipeline.jpeg, late=not pipeline.jpeg.late))
    if "color" in differing and pipeline.resize:
        yield replace(pipeline, color=replace(pipeline.color, late=not pipeline.color.late))
    if (pipeline.crop.right, pipeline.crop.down) != (reference.crop.right, reference.crop.down):
        for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            crop = pipeline.crop
            yield replace(pipeline, crop=replace(crop, right=crop.right + right, down=crop.down + down))
    if "scale" in differing and pipeline.scale.divisor != reference.scale.divisor:
        for step in (0.9, 1.1, 0.98, 1.02, 0.996, 1.004):
            yield replace(pipeline, scale=replace(pipeline.scale, divisor=pipeline.scale.divisor * step))
    if "normalise" in differing:
        yield from _normalised(pipeline)
    if "resize" in differing and pipeline.resize and pipeline.transform is None:
        yield from _resized_nearby(pipeline)


def _saved(jpeg: Jpeg, *, color: bool) -> Iterator[Jpeg]:
    for more in (-12, 12, -4, 4, -1, 1):
        if 1 <= jpeg.quality + more <= 100:  # noqa: PLR2004  The range of libjpeg.
            yield replace(jpeg, quality=jpeg.quality + more)
    for subsampling in get_args(Subsampling) if color else ():
        yield replace(jpeg, subsampling=subsampling)


def _normalised(pipeline: ServingPipeline) -> Iterator[ServingPipeline]:
    now = pipeline.normalise
    for step in (-0.1, 0.1, -0.02, 0.02, -0.005, 0.005):
        yield replace(pipeline, normalise=Normalise(tuple(mean + step for mean in now.mean), now.std))
    for step in _STEPS:
        yield replace(pipeline, normalise=Normalise(now.mean, tuple(std * step for std in now.std)))


def _resized(reference: ServingPipeline, size: tuple[int, int]) -> Iterator[ServingPipeline]:
    """Yield other sizes and parts of pictures, by several filters; where nothing is resized, also detours and back."""
    last = reference.resize[-1] if reference.resize else Resize(size)
    side = last.size if isinstance(last.size, int) else min(size)
    sides = [round(side * factor) for factor in _SIZES]
    sizes = [(replace(last, size=each, side="shorter"),) for each in sides]
    if reference.resize:
        sizes += [(replace(last, size=(each * size[0] // min(size), each * size[1] // min(size))),) for each in sides]
    parts = [(replace(last, size=size, middle=kept if kept < 1 else round(min(size) * kept)),) for kept in _MIDDLES]
    detours = [(Resize((round(size[0] * factor), round(size[1] * factor))), last) for factor in _DETOURS]
    crop = replace(reference.crop, size=size)
    for resize in (*sizes, *parts, *(() if reference.resize else detours)):
        yield replace(reference, resize=resize, crop=crop)
        for library, filtered in _FILTERED:
            yield replace(reference, resize=tuple(_by(each, library, filtered) for each in resize), crop=crop)


def _resized_nearby(pipeline: ServingPipeline) -> Iterator[ServingPipeline]:
    first, *rest = pipeline.resize
    if pipeline.crop.size and first.middle == 1:
        size = (first.size, first.size) if isinstance(first.size, int) else min(first.size)
        yield replace(pipeline, resize=(replace(first, size=size), *rest))
    for step in _PIXELS:
        if first.middle == 1 and (rest or isinstance(first.size, int) or pipeline.crop.size):
            moved = first.size + step if isinstance(first.size, int) else (first.size[0] + step, first.size[1] + step)
            yield replace(pipeline, resize=(replace(first, size=moved), *rest))
        if first.middle != 1:
            middle = first.middle + (step if first.middle > 1 else step * _SHARE)
            yield replace(pipeline, resize=(replace(first, middle=middle), *rest))
    for library, filters in FILTERS.items():
        for filtered in filters:
            yield replace(pipeline, resize=tuple(_by(each, library, filtered) for each in (first, *rest)))


def _by(resize: Resize, library: str, filtered: str) -> Resize:
    """Return a resizing by another library and filter, antialiased where that is its way."""
    kind: Filter = filtered  # type: ignore[assignment]
    smooth, *_ = antialiasing(library, filtered)
    return replace(resize, library=library, filter=kind, antialias=smooth)  # type: ignore[arg-type]
