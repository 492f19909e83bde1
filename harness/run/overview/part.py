"""A part of the overview: a record, and the function that measures it of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.base.records import record

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures import Measurement
    from harness.measures.failures import FailureKind
    from harness.measures.panel.label_errors import LabelErrors
    from harness.measures.panel.predictions import PanelPredictions

T = TypeVar("T")

TELLING = 200
"""Images of a figure, at least, or all: of fewer, a share of 90% is known to within 4 points or worse."""


@record
class Rate:
    """A share in [0, 1] of `n` images, with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class Subject:
    """One model, and the images that an overview measures it on: all, a `sample` of them, and about half, `fewer`.

    Confidence is measured on `sure`, in a pass with full precision; None leaves it out. `without` are the records of
    other parts that are left out. `kinds` are the kinds of failure to count, and `label_errors` the suspected label
    errors. `survival` and `robust` are the images of two searches, None without the search.
    """

    model: RoleModel
    images: LabelledImages
    sample: LabelledImages
    fewer: LabelledImages
    sure: LabelledImages | None
    kinds: tuple[FailureKind, ...]
    survival: LabelledImages | None = None
    robust: LabelledImages | None = None
    panel_predictions: PanelPredictions | None = None
    label_errors: LabelErrors | None = None
    without: frozenset[type] = frozenset()


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of the overview: the `record` that holds it and the function that measures it of one model.

    The record is made by `harness.base.records.record`. Its fields are keys of the model in `stress.json`, so two parts
    must not share a name. If there is nothing to measure, `measure` returns a record that says so. A part that may be
    left out has a record without values, and a `title` for the line about its absence. For each image of its sample, it
    takes about so many `passes` of a model.
    """

    record: type[T]
    measure: Callable[[Subject], T]
    title: str = ""
    passes: int = 0


AnyPart = Part[Any]


def rate_of(measured: Measurement) -> Rate:
    """Return a measured share as an overview holds it."""
    low, high = measured.interval
    return Rate(float(measured.value), float(low), float(high), measured.n)
