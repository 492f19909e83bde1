"""The plan of a comparison: what fits into a time, and on how many images, before any model has run through them."""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError
from harness.data import sample_up_to
from harness.inference.ledger import Ledger
from harness.inference.standins import counting
from harness.run.budget import Costs, duration, in_cores
from harness.run.overview import (
    PARTS,
    Clean,
    Failing,
    Looking,
    Moved,
    RobustAccuracy,
    Shifted,
    Subject,
    Surviving,
    Turned,
)
from harness.run.overview.measure import CONFIDENCE, curve_sizes, least_of, left_out, samples_of
from harness.run.plan import costs_of
from harness.run.session import PROBE_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel

_CLEAN = 0.5
"""Share of the time that clean images may take; of more, a sample is compared."""
_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Samples of clean images: few sizes, since another comparison then finds their predictions in the cache."""
_ORDER: tuple[object, ...] = (Moved, CONFIDENCE, Looking, Turned, RobustAccuracy, Surviving, Shifted)
"""Parts that may be left out, the most telling first; `CONFIDENCE` stands for the confidences of clean images."""
_SEARCHES = (RobustAccuracy, Surviving)


@dataclass(frozen=True, eq=False)
class ComparisonPlan:
    """Plan of a comparison: its `images`, how many of them for `curves` and `searches`, and parts it is `without`.

    It takes `seconds` of the clock on so many `cores`, all of it `whole` seconds. `poses` are the inputs that models
    are run on. Without a `budget`, in seconds, all is measured. Searches end early: their counts are the largest.
    """

    images: LabelledImages
    out_of: int
    curves: int
    searches: int
    without: frozenset[object] = frozenset()
    seconds: float = 0.0
    whole: float = 0.0
    poses: int = 0
    cores: int = 1
    budget: float | None = None

    @property
    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        n = len(self.images)
        parts = [f"clean on {n:,} of {self.out_of:,} images" if n < self.out_of else f"clean on {n:,} images"]
        if not {Moved, Turned, Shifted, Looking} <= self.without:
            parts.append(f"turned and moved on {self.curves:,}")
        if not set(_SEARCHES) <= self.without:
            parts.append(f"searches on {self.searches:,}")
        took = f"at most {duration(self.seconds)}" if self.seconds >= 1 else "about a second"
        took = "an unknown time" if math.isnan(self.seconds) else took
        lines = [f"plan: {took} on {in_cores(self.cores)}: {', '.join(parts)}"]
        titles = [part.title for part in PARTS if part.record in self.without]
        titles += [CONFIDENCE] if CONFIDENCE in self.without else []
        if titles and self.budget is not None:
            lines.append(
                f"left out, since {duration(self.budget)} do not suffice: {', '.join(titles)} (--full: at most "
                f"{duration(self.whole)}; --budget TIME)"
            )
        return lines


def plan_comparison(
    models: Mapping[str, RoleModel], images: LabelledImages, *, budget: float | None, besides: float = 0.0
) -> ComparisonPlan:
    """Return what fits into the budget, in seconds of the clock; measures a few batches of each model.

    `besides` is the part of the budget that the start and the page take. Cached predictions cost nothing. Clean images
    are always measured, a sample of them where all take too long.
    """
    costs = _costs(models, images, required=budget is not None)
    left = math.inf if budget is None else max(budget - besides, 0.0)
    some = images if budget is None else _affordable(models, images, costs, left * _CLEAN)
    sizes, probes = curve_sizes(some), sorted({least_of(some), min(PROBE_SAMPLES, len(some))})
    counts = {size: _counted(models, some, costs, curves=size) for size in sizes}
    searches = {size: _counted(models, some, costs, searched=size) for size in probes}

    def total(curves: int, searched: int, parts: Sequence[object]) -> np.ndarray:
        found = [(searches[searched] if part in _SEARCHES else counts[curves])[part] for part in (Clean, *parts)]
        return np.asarray(np.sum(found, axis=0))

    whole, _ = total(sizes[-1], probes[-1], _ORDER)
    curves, searched, without = sizes[-1], probes[-1], frozenset[object]()
    if whole > left:
        curves, searched = sizes[0], probes[0]
        clean = total(curves, searched, ())[0]
        without = left_out({part: total(curves, searched, (part,))[0] - clean for part in _ORDER}, left - clean)
        parts = [part for part in _ORDER if part not in without]
        curves = max(size for size in sizes if size == curves or total(size, searched, parts)[0] <= left)
        searched = max(size for size in probes if size == searched or total(curves, size, parts)[0] <= left)
    seconds, poses = total(curves, searched, [part for part in _ORDER if part not in without])
    return ComparisonPlan(
        some,
        len(images),
        curves,
        searched,
        without,
        besides + float(seconds),
        besides + float(whole),
        int(poses),
        max(each.cores for each in costs.values()),
        budget,
    )


def _costs(models: Mapping[str, RoleModel], images: LabelledImages, *, required: bool) -> dict[str, Costs]:
    """Return what each model costs; recorded predictions cost nothing, and models of one kind are measured once.

    Unless costs are `required`, those of a model without an answer in time are NaN; else this raises `InputError`.
    """
    kinds: dict[str, Costs] = {"recorded": Costs(0.0, 0.0, 0)}
    costs = {}
    for name, model in models.items():
        live = model.provides.live
        kind = f"{model.classifier.device} {model.classifier.model}" if live else "recorded"
        if kind not in kinds:
            try:
                kinds[kind] = costs_of(model, images)
            except InputError as error:
                if required:
                    raise InputError(f"{error.message} Or compare without a plan (--full).", code=error.code) from None
                kinds[kind] = Costs(math.nan, math.nan, 0)
        costs[name] = kinds[kind]
    return costs


def _affordable(
    models: Mapping[str, RoleModel], images: LabelledImages, costs: Mapping[str, Costs], seconds: float
) -> LabelledImages:
    """Return the images, or the largest sample of them whose clean predictions fit into so many seconds."""
    for size in (len(images), *(size for size in reversed(_SIZES) if size < len(images))):
        some, took = images if size == len(images) else sample_up_to(images, size), 0.0
        for name, model in models.items():
            counting(model, ledger := Ledger()).predict(some)
            took += costs[name].seconds(ledger.now)
        if took <= seconds:
            break
    return some


def _counted(
    models: Mapping[str, RoleModel],
    images: LabelledImages,
    costs: Mapping[str, Costs],
    *,
    curves: int | None = None,
    searched: int | None = None,
) -> Mapping[object, np.ndarray]:
    """Return what the parts of an overview ask for, of all models: seconds of the clock, and inputs to run models on.

    These are curves of so many images, or searches. Failures are looked at in the poses of `Moved`.
    """
    counted: dict[object, np.ndarray] = defaultdict(lambda: np.zeros(2))
    sample, fewer = samples_of(images, curves)
    probe = None if searched is None else sample_up_to(images, searched)
    for name, model in models.items():
        planned = counting(model, ledger := Ledger())
        subject = Subject(planned, images, sample, fewer, None, (), probe, probe)
        parts = [part for part in PARTS if (part.record in _SEARCHES) == (searched is not None)]
        works: list[tuple[Any, str, Callable[[], object]]] = [
            (part.record, part.record.__name__, partial(part.measure, subject))
            for part in sorted(parts, key=lambda part: part.record is not Clean)
        ]
        if searched is None:
            works.append((CONFIDENCE, CONFIDENCE, lambda: planned.predict(images).probabilities))  # noqa: B023
        for record, under, work in works:
            with ledger.under(under), suppress(Exception):  # It may fail for made-up predictions.
                work()
            part = record if record in _ORDER else Moved if record is Failing else Clean
            asked = ledger.asked[under]
            counted[part] += costs[name].seconds(asked), asked.poses + asked.maps
    return counted
