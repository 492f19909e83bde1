"""Planted faults of one stage each: skews of the catalog, and parameter values that no list of the search has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.data.serving import Jpeg, Normalise, Resize
from harness.run.skew import causes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.data.serving import ServingPipeline
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


@dataclass(frozen=True)
class Fault:
    """A pipeline with one fault: its name, the cause that is expected, and whether the catalog has it."""

    name: str
    cause: tuple[str, ...]
    listed: bool
    pipeline: ServingPipeline


def faults(serving: Serving) -> Iterator[Fault]:
    """Yield all faults of images with this reference pipeline; equal pipelines come once."""
    reference = serving.reference
    for name, pipeline in serving.catalog.items():
        yield Fault(name, causes_of(pipeline, reference), listed=True, pipeline=pipeline)
    for name, pipeline in _unlisted(reference, serving.pictured.size):
        yield Fault(name, causes_of(pipeline, reference), listed=False, pipeline=pipeline)


def _unlisted(reference: ServingPipeline, size: tuple[int, int]) -> Iterator[tuple[str, ServingPipeline]]:
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
