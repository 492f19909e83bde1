"""Planted faults of one stage each.

Skews of the catalog, and parameter values that no list of the search has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from harness.data.image_files import Jpeg
from harness.data.pipeline import Pipeline
from harness.data.serving import Serving
from harness.data.stages import Normalise, Resize
from harness.features.skew.diagnosis import combined
from harness.features.skew.trials import causes_of

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
"""Two faults at once, by their names: half of the pairs have a value that no list of the search
has.
"""
_LISTED = (
    *(
        "decode-draft-2",
        "jpeg-85",
        "jpeg-75",
        "bgr",
        "gray",
        "gamma-twice",
        "video-range",
        "resize-pillow-nearest",
    ),
    *(
        "resize-opencv-bilinear",
        "resize-opencv-area",
        "resize-torch-bicubic-plain",
        "squash",
        "letterbox",
    ),
    *("crop-right-1", "crop-corner-1", "normalise-none", "normalise-imagenet"),
)
"""The skews that are planted in the serving of photographs."""


@dataclass(frozen=True)
class Fault:
    """A pipeline with one fault.

    Its name, the cause that is expected, and whether the catalog has it.
    """

    name: str
    cause: tuple[str, ...]
    listed: bool
    pipeline: Pipeline


def faults(serving: Serving) -> Iterator[tuple[Fault]]:
    """Yield all faults of images with this reference pipeline; equal pipelines come once."""
    yield from _planted(
        serving, serving.catalog, _unlisted(serving.reference, serving.pictured.size)
    )


def _planted(
    serving: Serving, listed: Iterable[str], others: Iterable[tuple[str, Pipeline]]
) -> Iterator[tuple[Fault]]:
    for name in listed:
        pipeline = serving.catalog[name]
        yield (Fault(name, causes_of(pipeline, serving.reference), listed=True, pipeline=pipeline),)
    for name, pipeline in others:
        yield (
            Fault(name, causes_of(pipeline, serving.reference), listed=False, pipeline=pipeline),
        )


def pairs(serving: Serving) -> Iterator[tuple[Fault, Fault, Fault]]:
    """Yield each pair of faults, and what has both."""
    known = {fault.name: fault for (fault,) in faults(serving)}
    for names in _PAIRS:
        first, second = (known[name] for name in names)
        both = combined(first.pipeline, second.pipeline, serving.reference)
        assert both is not None, f"{' and '.join(names)} are faults of one stage"
        cause = causes_of(both, serving.reference)
        yield first, second, Fault(" and ".join(names), cause, first.listed and second.listed, both)


def _with(reference: Pipeline, stage: str, **settings: object) -> Pipeline:
    return replace(reference, **{stage: replace(getattr(reference, stage), **settings)})


def _unlisted(reference: Pipeline, size: tuple[int, int]) -> Iterator[tuple[str, Pipeline]]:
    for quality in _QUALITIES:
        yield f"JPEG {quality}", replace(reference, jpeg=Jpeg(quality))
    for gamma in _GAMMAS:
        yield f"gamma {gamma:g}", _with(reference, "color", gamma=gamma)
    for right, down in _MOVES:
        yield f"crop moved by {right}, {down}", _with(reference, "crop", right=right, down=down)
    for divisor in _DIVISORS:
        yield f"/{divisor:g}", _with(reference, "scale", divisor=divisor)
    for mean, std in _NORMALISATIONS:
        yield (
            f"mean {mean:g}, std {std:g}",
            replace(reference, normalise=Normalise((mean,), (std,))),
        )
    for side, library, filtered, smooth in _DETOURS:
        there, back = (Resize(each, library, filtered, smooth) for each in ((side, side), size))
        yield f"by {side} px, {library} {filtered}", replace(reference, resize=(there, back))


def photograph_faults(serving: Serving) -> Iterator[tuple[Fault]]:
    """Yield the faults planted in the serving of photographs.

    Half have values that no list of the search has.
    """
    others = ((name, change(serving.reference)) for name, change in _OF_PHOTOGRAPHS.items())
    yield from _planted(serving, (name for name in _LISTED if name in serving.catalog), others)


def _resized(size: int | tuple[int, int]) -> Callable[[Pipeline], Pipeline]:
    return lambda reference: replace(
        reference, resize=tuple(replace(each, size=size) for each in reference.resize)
    )


_OF_PHOTOGRAPHS: dict[str, Callable[[Pipeline], Pipeline]] = {
    "JPEG 55": lambda reference: replace(reference, jpeg=Jpeg(55)),
    "JPEG 28": lambda reference: replace(reference, jpeg=Jpeg(28)),
    "JPEG 42 4:4:4": lambda reference: replace(reference, jpeg=Jpeg(42, "4:4:4")),
    **{f"gamma {gamma}": partial(_with, stage="color", gamma=gamma) for gamma in (0.5, 1.45, 1.85)},
    **{
        f"crop moved by {right}, {down}": partial(_with, stage="crop", right=right, down=down)
        for right, down in ((3, 0), (0, -5), (-3, 4), (7, 7))
    },
    **{
        f"/{divisor:g}": partial(_with, stage="scale", divisor=divisor)
        for divisor in (190.0, 340.0)
    },
    "mean 0.45, std 0.25": lambda reference: replace(
        reference, normalise=Normalise((0.45,), (0.25,))
    ),
    "mean 0.3, std 0.5": lambda reference: replace(reference, normalise=Normalise((0.3,), (0.5,))),
    **{f"shorter side {side}": _resized(side) for side in (160, 176, 137)},
    "squashed to 144 px": _resized((144, 144)),
}
"""Pipelines of photographs with another value of one stage, by the names of the faults."""
