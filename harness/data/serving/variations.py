"""Other values of a stage's parameters: a grid around a reference pipeline, and the neighbors of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from harness.data.image_files import Jpeg, Subsampling
from harness.data.serving.catalog import resized_by
from harness.data.stages import FILTERS, Resize, antialiasing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.data.pipeline import Pipeline

_MOVES = ((-1, 0), (0, -1), (2, 0), (-2, 0), (0, 2), (0, -2), (-1, -1), (1, -1), (-1, 1), (2, 2), (-2, -2))
_DIVISORS = (1.0, 127.5, 255.0**2, *(255 * factor for factor in (0.8, 0.92, 1.08, 1.25)))
_FILTERED = (("opencv", "bilinear"), ("opencv", "area"), ("opencv", "nearest"), ("pillow", "bicubic"))
_SIZES = (0.87, 0.93, 1.04, 1.07, 1.1, 1.15, 1.2, 1.25, 1.3)
_STEPS = (0.8, 1.25, 0.94, 1.06, 0.985, 1.015, 0.996, 1.004)
_MIDDLES = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.15, 1.3)
"""Middles of pictures: shares of each side, and from 1 on the sides of squares over the images' shorter side."""
_SHARE = 0.015
"""Step of the share of a picture that is cropped before resizing, for a pixel of a size."""


def variations(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield pipelines with other parameters of one stage than the catalog has.

    `size` is the (height, width) of the images.
    """
    yield from (replace(reference, jpeg=Jpeg(quality)) for quality in (90, 65, 50, 35, 20))
    yield from (reference.but("color", gamma=gamma) for gamma in (0.6, 0.75, 0.9, 1.1, 1.3, 1.7))
    yield from (reference.but("crop", right=right, down=down) for right, down in _MOVES)
    yield from (reference.but("scale", bits=bits) for bits in (7, 5, 4, 3))
    yield from (reference.but("scale", divisor=divisor) for divisor in _DIVISORS)
    yield from _normalised(reference)
    if reference.transform is None:
        yield from _resized(reference, size)


def neighbors(pipeline: Pipeline, reference: Pipeline) -> Iterator[Pipeline]:
    """Yield pipelines one step away in the parameters of the stages in which a pipeline differs from the reference.

    Long steps come before short ones.
    """
    differing, color, crop = pipeline.differing(reference), pipeline.color, pipeline.crop
    jpeg = pipeline.jpeg if "jpeg" in differing else None
    if jpeg is not None:
        qualities = [jpeg.quality + more for more in (-12, 12, -4, 4, -1, 1)]
        yield from (pipeline.but("jpeg", quality=each) for each in qualities if 1 <= each <= 100)  # noqa: PLR2004
        for subsampling in get_args(Subsampling) if reference.color.channels != 1 else ():
            yield pipeline.but("jpeg", subsampling=subsampling)
    if "color" in differing and color.gamma != 1:
        yield from (pipeline.but("color", gamma=color.gamma * step) for step in _STEPS)
    if jpeg is not None and pipeline.resize:
        yield pipeline.but("jpeg", late=not jpeg.late)
    if "color" in differing and pipeline.resize:
        yield pipeline.but("color", late=not color.late)
    if (crop.right, crop.down) != (reference.crop.right, reference.crop.down):
        for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            yield pipeline.but("crop", right=crop.right + right, down=crop.down + down)
    if pipeline.scale.divisor != reference.scale.divisor:
        for step in (0.9, 1.1, 0.98, 1.02, 0.996, 1.004):
            yield pipeline.but("scale", divisor=pipeline.scale.divisor * step)
    if "normalise" in differing:
        yield from _normalised(pipeline)
    if "resize" in differing and pipeline.resize and pipeline.transform is None:
        yield from _resized_nearby(pipeline)


def _normalised(pipeline: Pipeline) -> Iterator[Pipeline]:
    now = pipeline.normalise
    for step in (-0.1, 0.1, -0.02, 0.02, -0.005, 0.005):
        yield pipeline.but("normalise", mean=tuple(mean + step for mean in now.mean))
    for step in _STEPS:
        yield pipeline.but("normalise", std=tuple(std * step for std in now.std))


def _resized(reference: Pipeline, size: tuple[int, int]) -> Iterator[Pipeline]:
    """Yield other sizes and parts of pictures, by several filters; where nothing is resized, also detours and back."""
    last = reference.resize[-1] if reference.resize else Resize(size)
    side = last.size if isinstance(last.size, int) else min(size)
    sides = [round(side * factor) for factor in _SIZES]
    resizes = [(replace(last, size=each, side="shorter"),) for each in sides]
    if reference.resize:
        stretched = [(each * size[0] // min(size), each * size[1] // min(size)) for each in sides]
        resizes += [(replace(last, size=each),) for each in stretched]
    resizes += [(replace(last, size=size, middle=kept if kept < 1 else round(min(size) * kept)),) for kept in _MIDDLES]
    if not reference.resize:
        detours = [(round(size[0] * factor), round(size[1] * factor)) for factor in (0.5, 0.75, 2.0)]
        resizes += [(Resize(each), last) for each in detours]
    for resize in resizes:
        other = replace(reference, resize=resize).but("crop", size=size)
        yield other
        yield from (_by(other, library, filtered) for library, filtered in _FILTERED)


def _resized_nearby(pipeline: Pipeline) -> Iterator[Pipeline]:
    first, *rest = pipeline.resize

    def but(**settings: Any) -> Pipeline:
        return replace(pipeline, resize=(replace(first, **settings), *rest))

    if pipeline.crop.size and first.middle == 1:
        yield but(size=(first.size, first.size) if isinstance(first.size, int) else min(first.size))
    for step in (-4, 4, -1, 1):
        if first.middle != 1:
            yield but(middle=first.middle + (step if first.middle > 1 else step * _SHARE))
        elif isinstance(first.size, int):
            yield but(size=first.size + step)
        elif rest or pipeline.crop.size:
            yield but(size=(first.size[0] + step, first.size[1] + step))
    yield from (_by(pipeline, library, filtered) for library, filters in FILTERS.items() for filtered in filters)


def _by(pipeline: Pipeline, library: str, filtered: str) -> Pipeline:
    """Return a pipeline that resizes by another library and filter, antialiased where that is its way."""
    return resized_by(pipeline, library, filtered, antialias=antialiasing(library, filtered)[0])
