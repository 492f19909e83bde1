"""Planted faults of one stage each: skews of the catalog, and parameter values that no list of the search has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.data.image_files import Jpeg
from harness.data.stages import Normalise, Resize
from harness.features.skew.diagnosis import combined
from harness.features.skew.trials import causes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.data.pipeline import Pipeline
    from harness.data.serving.served import Serving

_QUALITIES = (67, 55, 42, 28, 17, 72)
_GAMMAS = (0.5, 0.65, 1.45, 1.85, 0.38, 2.6)
_MOVES = ((3, 0), (0, -3), (2, 1), (-1, 2), (-3, 1), (1, 2), (-2, -1), (0, 3))
_DIVISORS = (190.0, 340.0, 150.0)
_NORMALISATIONS = ((0.4, 0.4), (0.286, 0.25), (0.2, 0.353), (0.35, 0.353))
_DETOURS = (
    (24, "opencv", "bilinear", False),
    (36, "opencv", "bilinear", False),
    (40, "opencv", "area", True),
    (30, "opencv", "bilinear", False),
    (20, "torch", "bicubic", False),
    (24, "pillow", "hamming", True),
    (22, "pillow", "bilinear", True),
    (26, "opencv", "nearest", False),
)
_PAIRS = (
    ("jpeg-75", "crop-right-1"),
    ("gamma-linear", "resize-opencv-bilinear"),
    ("video-range", "crop-down-1"),
    ("resize-torch-nearest", "gamma-twice"),
    ("normalise-mnist", "jpeg-75"),
    ("minus-one-to-one", "crop-corner-1"),
    ("gamma-linear", "normalise-half"),
    ("resize-pillow-bilinear", "crop-right-1"),
    ("jpeg-85", "by 20 px, torch bicubic"),
    ("gamma-twice", "crop moved by 1, 2"),
    ("crop-right-1", "/190"),
    ("video-range", "JPEG 42"),
    ("resize-opencv-area", "mean 0.4, std 0.4"),
    ("JPEG 28", "crop moved by 2, 1"),
    ("gamma 1.85", "by 24 px, opencv bilinear"),
    ("gamma 0.65", "mean 0.2, std 0.353"),
)
"""Two faults at once, by their names: half of the pairs have a value that no list of the search has."""
_LISTED = (
    "decode-draft-2",
    "jpeg-85",
    "jpeg-75",
    "bgr",
    "gray",
    "gamma-twice",
    "video-range",
    "resize-pillow-nearest",
    "resize-opencv-bilinear",
    "resize-opencv-area",
    "resize-torch-bicubic-plain",
    "squash",
    "letterbox",
    "crop-right-1",
    "crop-corner-1",
    "normalise-none",
    "normalise-imagenet",
)
"""The skews that are planted in the serving of photographs."""


@dataclass(frozen=True)
class Fault:
    """A pipeline with one fault: its name, the cause that is expected, and whether the catalog has it."""

    name: str
    cause: tuple[str, ...]
    listed: bool
    pipeline: Pipeline


def faults(serving: Serving) -> Iterator[Fault]:
    """Yield all faults of images with this reference pipeline; equal pipelines come once."""
    reference = serving.reference
    for name, pipeline in serving.catalog.items():
        yield Fault(name, causes_of(pipeline, reference), listed=True, pipeline=pipeline)
    for name, pipeline in _unlisted(reference, serving.pictured.size):
        yield Fault(name, causes_of(pipeline, reference), listed=False, pipeline=pipeline)


def pairs(serving: Serving) -> Iterator[tuple[Fault, Fault, Fault]]:
    """Yield each pair of faults, and what has both."""
    known = {fault.name: fault for fault in faults(serving)}
    for names in _PAIRS:
        first, second = (known[name] for name in names)
        both = combined(first.pipeline, second.pipeline, serving.reference)
        assert both is not None, f"{' and '.join(names)} are faults of one stage"
        listed = first.listed and second.listed
        cause = causes_of(both, serving.reference)
        yield first, second, Fault(" and ".join(names), cause, listed, both)


def _unlisted(reference: Pipeline, size: tuple[int, int]) -> Iterator[tuple[str, Pipeline]]:
    for quality in _QUALITIES:
        yield f"JPEG {quality}", replace(reference, jpeg=Jpeg(quality))
    for gamma in _GAMMAS:
        yield f"gamma {gamma:g}", replace(reference, color=replace(reference.color, gamma=gamma))
    for right, down in _MOVES:
        yield f"crop moved by {right}, {down}", replace(reference, crop=replace(reference.crop, right=right, down=down))
    for divisor in _DIVISORS:
        yield f"/{divisor:g}", replace(reference, scale=replace(reference.scale, divisor=divisor))
    for mean, std in _NORMALISATIONS:
        yield f"mean {mean:g}, std {std:g}", replace(reference, normalise=Normalise((mean,), (std,)))
    for side, library, filtered, smooth in _DETOURS:
        there, back = (
            Resize(each, library, filtered, smooth)  # type: ignore[arg-type]
            for each in ((side, side), size)
        )
        yield f"by {side} px, {library} {filtered}", replace(reference, resize=(there, back))


def photograph_faults(serving: Serving) -> Iterator[Fault]:
    """Yield the faults planted in the serving of photographs; half have values that no list of the search has."""
    reference = serving.reference
    for name in _LISTED:
        if name in serving.catalog:
            pipeline = serving.catalog[name]
            yield Fault(name, causes_of(pipeline, reference), listed=True, pipeline=pipeline)
    for name, changes in _OF_PHOTOGRAPHS.items():
        pipeline = changes(reference)
        yield Fault(name, causes_of(pipeline, reference), listed=False, pipeline=pipeline)


def _moved(reference: Pipeline, right: int, down: int) -> Pipeline:
    return replace(reference, crop=replace(reference.crop, right=right, down=down))


def _resized(reference: Pipeline, **settings: object) -> Pipeline:
    (resize,) = reference.resize
    return replace(reference, resize=(replace(resize, **settings),))  # type: ignore[arg-type]


_OF_PHOTOGRAPHS: dict[str, Callable[[Pipeline], Pipeline]] = {
    "JPEG 55": lambda reference: replace(reference, jpeg=Jpeg(55)),
    "JPEG 28": lambda reference: replace(reference, jpeg=Jpeg(28)),
    "JPEG 42 4:4:4": lambda reference: replace(reference, jpeg=Jpeg(42, "4:4:4")),
    "gamma 0.5": lambda reference: replace(reference, color=replace(reference.color, gamma=0.5)),
    "gamma 1.45": lambda reference: replace(reference, color=replace(reference.color, gamma=1.45)),
    "gamma 1.85": lambda reference: replace(reference, color=replace(reference.color, gamma=1.85)),
    "crop moved by 3, 0": lambda reference: _moved(reference, 3, 0),
    "crop moved by 0, -5": lambda reference: _moved(reference, 0, -5),
    "crop moved by -3, 4": lambda reference: _moved(reference, -3, 4),
    "crop moved by 7, 7": lambda reference: _moved(reference, 7, 7),
    "/190": lambda reference: replace(reference, scale=replace(reference.scale, divisor=190.0)),
    "/340": lambda reference: replace(reference, scale=replace(reference.scale, divisor=340.0)),
    "mean 0.45, std 0.25": lambda reference: replace(reference, normalise=Normalise((0.45,), (0.25,))),
    "mean 0.3, std 0.5": lambda reference: replace(reference, normalise=Normalise((0.3,), (0.5,))),
    "shorter side 160": lambda reference: _resized(reference, size=160),
    "shorter side 176": lambda reference: _resized(reference, size=176),
    "shorter side 137": lambda reference: _resized(reference, size=137),
    "squashed to 144 px": lambda reference: _resized(reference, size=(144, 144)),
}
"""Pipelines of photographs with another value of one stage, by the names of the faults."""
