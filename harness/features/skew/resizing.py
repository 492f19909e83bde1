"""Pipelines that resize otherwise: by another library, or with other factors of the sides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.data.stages import Resize, antialiasing

if TYPE_CHECKING:
    from harness.data.pipeline import Pipeline


def resized_by(
    pipeline: Pipeline, library: Any, filtered: Any, *, antialias: bool | None = None
) -> Pipeline:
    """Return a pipeline that resizes by another library and filter, antialiased by its default."""
    if antialias is None:
        antialias = antialiasing(library, filtered)[0]
    resizes = []
    for resize in pipeline.resize:
        changed = replace(resize, library=library, filter=filtered, antialias=antialias)
        resizes.append(changed)
    return replace(pipeline, resize=tuple(resizes))


def last_resize(reference: Pipeline, size: tuple[int, int]) -> Resize:
    """Return the last resizing of a pipeline, by default to the size of the images."""
    if reference.resize:
        return reference.resize[-1]
    return Resize(size)


def stretched(reference: Pipeline, size: tuple[int, int], factors: tuple[float, float]) -> Pipeline:
    """Return a pipeline that stretches pictures by `factors` and cuts or pads them to `size`.

    Both are (height, width).
    """
    resized = replace(last_resize(reference, size), stretch=factors)
    return replace(reference, resize=(*reference.resize[:-1], resized)).but("crop", size=size)
