"""The reference pipeline of some data, as data: that of the options, or of a transform of torchvision or timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.data.serving.pipeline import ServingPipeline
from harness.data.serving.resizing import Resize
from harness.data.serving.stages import Color, Crop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.data.pipeline import Pipeline
    from harness.data.transforms import Transform

_FILTERS = {"box": "area"}
"""Names of Pillow's filters that are others here."""
_TO_TENSOR = {"ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage"}
_TO_FLOATS = {"ConvertImageDtype", "ToDtype"}


def reference_pipelines(pipeline: Pipeline, *, channels: int, encoded: bool) -> tuple[ServingPipeline, ...]:
    """Return what may be the serving pipeline of a pipeline of the options, the most detailed first.

    A transform is read where its steps are known, and else one opaque stage. `channels` are those of the images,
    `encoded` says whether their pictures are bytes.
    """
    if (transform := pipeline.transform) is not None:
        # A transform is called with an RGB picture.
        opaque = ServingPipeline(color=Color(3), transform=transform, encoded=encoded)
        known = _stages_of(transform)
        return opaque_last(known, opaque, encoded=encoded)
    resize: tuple[Resize, ...] = ()
    size = pipeline.size or pipeline.resize
    if size is not None:
        named = pipeline.interpolation or "bilinear"
        resize = (_resize(size, _FILTERS.get(named, named), antialias=pipeline.antialias),)
    kind: Any = channels
    return (ServingPipeline(color=Color(kind), resize=resize, crop=Crop(pipeline.crop), encoded=encoded),)


def opaque_last(
    known: tuple[Resize | None, Crop] | None, opaque: ServingPipeline, *, encoded: bool
) -> tuple[ServingPipeline, ...]:
    """Return the pipeline of known stages, if there is one, before the opaque one."""
    if known is None:
        return (opaque,)
    resize, crop = known
    read = ServingPipeline(color=Color(3), resize=() if resize is None else (resize,), crop=crop, encoded=encoded)
    return read, opaque


def _resize(size: int | tuple[int, int], named: str, *, antialias: bool, library: str = "pillow") -> Resize:
    """Return a resizing as the options do it: by Pillow, or by torch where it is of a tensor or not antialiased."""
    kind: Any = named
    if not antialias or library == "torch":
        return Resize(size, "torch", kind, antialias=antialias and named != "nearest")
    return Resize(size, "pillow", kind, antialias=named != "nearest")


def _stages_of(transform: Transform) -> tuple[Resize | None, Crop] | None:
    """Return the resizing and the crop of a transform of torchvision's or timm's; None for one with other steps."""
    call: Any = transform.call
    try:
        if type(call).__name__ == "ImageClassification":
            resized = _resize(_size(call.resize_size), _filter(call.interpolation), antialias=True)
            return resized, Crop(_square(call.crop_size))
        return _of_steps(call.transforms)
    except (AttributeError, TypeError, ValueError, KeyError):
        return None


def _of_steps(steps: Iterable[Any]) -> tuple[Resize | None, Crop] | None:
    resize: Resize | None = None
    crop = Crop()
    library = "pillow"
    for step in steps:
        kind = type(step).__name__
        if kind == "Resize" and resize is None and crop == Crop() and getattr(step, "max_size", None) is None:
            antialias = library == "pillow" or bool(getattr(step, "antialias", True))
            resize = _resize(_size(step.size), _filter(step.interpolation), antialias=antialias, library=library)
        elif kind == "CenterCrop" and crop == Crop():
            crop = Crop(_square(step.size))
        elif kind in _TO_TENSOR:
            library = "torch"
        elif kind not in _TO_FLOATS:
            return None
    return resize, crop


def _filter(interpolation: Any) -> str:
    named = str(getattr(interpolation, "value", interpolation))
    return _FILTERS.get(named, named)


def _size(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return the length of the shorter side, or (height, width)."""
    if isinstance(size, int):
        return size
    lengths = [int(length) for length in size]
    return lengths[0] if len(lengths) == 1 else (lengths[0], lengths[1])


def _square(size: int | Sequence[int]) -> tuple[int, int]:
    found = _size(size)
    return found if isinstance(found, tuple) else (found, found)
