"""Comparison of two models on the same images, planned before it runs: samples and parts that fit into a time."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data import sample_up_to
from harness.inference.devices import watched
from harness.inference.ledger import Ledger
from harness.inference.standins import counting
from harness.measures.flips import Flips, flips
from harness.run import overview
from harness.run.budget import REPORT_SECONDS, Costs, duration, in_cores
from harness.run.overview.measure import CONFIDENCE, curve_sizes, least_of, left_out, samples_of
from harness.run.plan import costs_of
from harness.run.session import PROBE_SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.run.settings import ModelSettings

_SILENCE = 8.0
"""Seconds after which a line of progress says that something happens."""
_CLEAN = 0.5
"""Share of the time that clean images may take; of more, a sample is compared."""
_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Samples of clean images: few sizes, since another comparison then finds their predictions in the cache."""
_ORDER: tuple[object, ...] = (
    overview.Moved,
    CONFIDENCE,
    overview.Looking,
    overview.Turned,
    overview.RobustAccuracy,
    overview.Surviving,
    overview.Shifted,
)
"""Parts that may be left out, the most telling first; `CONFIDENCE` stands for the confidences of clean images."""


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
    without: frozenset[object]
    seconds: float
    whole: float
    poses: int
    cores: int
    budget: float | None

    @property
    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        n = len(self.images)
        parts = [f"clean on {n:,} of {self.out_of:,} images" if n < self.out_of else f"clean on {n:,} images"]
        if not {overview.Moved, overview.Turned, overview.Shifted, overview.Looking} <= self.without:
            parts.append(f"turned and moved on {self.curves:,}")
        if not {overview.RobustAccuracy, overview.Surviving} <= self.without:
            parts.append(f"searches on {self.searches:,}")
        took = f"at most {duration(self.seconds)}" if self.seconds >= 1 else "about a second"
        took = "an unknown time" if math.isnan(self.seconds) else took
        lines = [f"plan: {took} on {in_cores(self.cores)}: {', '.join(parts)}"]
        titles = [part.title for part in overview.PARTS if part.record in self.without]
        titles += [CONFIDENCE] if CONFIDENCE in self.without else []
        if titles and self.budget is not None:
            lines.append(
                f"left out, since {duration(self.budget)} do not suffice: {', '.join(titles)} (--full: at most "
                f"{duration(self.whole)}; --budget TIME)"
            )
        return lines


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same images, the candidate first: measured side by side, and the predictions that differ.

    `changed` are the flips from the second model to the first.
    """

    images: LabelledImages
    models: tuple[RoleModel, RoleModel]
    predictions: tuple[Predictions, Predictions]
    overview: overview.Overview
    changed: Flips


def compare(
    paths: tuple[Path | str, Path | str],
    settings: ModelSettings,
    *,
    budget: float | None = None,
    on_planned: Callable[[ComparisonPlan], None] = lambda _: None,
    began: float | None = None,
) -> Comparison:
    """Compare two checkpoints; raises `InputError` for one that is refused, and where both hold the same network.

    It takes at most the `budget`, in seconds of the clock, by samples and without some parts; None measures all.
    `on_planned` is called with what is going to be measured, before it is. `began` is the time of this process, in
    seconds of one core, that the budget counts from (default: now).
    """
    began = time.process_time() if began is None else began
    images = settings.images()
    names = [path if isinstance(path, str) else path.stem for path in paths]
    if names[0] == names[1]:
        names = ["A", "B"]
    first, second = (replace(settings.open(path, images), role=name) for path, name in zip(paths, names, strict=True))
    if first.model_sha256 == second.model_sha256:
        raise InputError(f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare")
    models = {model.role: model for model in (first, second)}
    besides = time.process_time() - began + REPORT_SECONDS
    plan = plan_comparison(models, images, budget=budget, besides=besides)
    on_planned(plan)
    probe = dict.fromkeys(models, sample_up_to(plan.images, plan.searches))
    with (
        Progress(total=plan.poses, unit="image", desc="comparing", delay=2, silence=_SILENCE) as bar,
        # Unclear answers are asked for twice, beyond the total.
        watched(lambda inputs: bar.update(min(inputs, plan.poses - bar.n))),
    ):
        measured = overview.measure_overview(
            models,
            plan.images,
            survival={} if overview.Surviving in plan.without else probe,
            robust={} if overview.RobustAccuracy in plan.without else probe,
            curves=plan.curves,
            confidences=0 if CONFIDENCE in plan.without else None,
            without=[part for part in plan.without if isinstance(part, type)],
        )
    mine, theirs = first.predict(plan.images), second.predict(plan.images)
    return Comparison(plan.images, (first, second), (mine, theirs), measured, flips(mine, theirs))


def plan_comparison(
    models: Mapping[str, RoleModel], images: LabelledImages, *, budget: float | None, besides: float = 0.0
) -> ComparisonPlan:
    """Return what fits into the budget, in seconds of the clock; measures a few batches of each model.

    `besides` is the part of the budget that the start and the page take. Cached predictions cost nothing. Clean images
    are always measured, a sample of them where all take too long.
    """
    costs = {name: _cost(model, images, required=budget is not None) for name, model in models.items()}
    left, out_of = math.inf if budget is None else max(budget - besides, 0.0), len(images)
    everything = images
    for size in () if budget is None else (out_of, *(size for size in reversed(_SIZES) if size < out_of)):
        images, took = sample_up_to(everything, size), 0.0
        for name, model in models.items():
            counting(model, ledger := Ledger()).predict(images)
            took += costs[name].seconds(ledger.now)
        if took <= left * _CLEAN:
            break
    curves, probes = curve_sizes(images), sorted({least_of(images), min(PROBE_SAMPLES, len(images))})
    sizes = [*((each, probes[0]) for each in curves), (curves[-1], probes[-1])]

    def total(counted: Mapping[object, np.ndarray], parts: Sequence[object]) -> np.ndarray:
        return np.asarray(sum((counted[part] for part in parts), start=counted[overview.Clean]))

    chosen, without = sizes.pop(), frozenset[object]()
    counted = _counted(models, images, costs, *chosen)
    seconds, poses = total(counted, _ORDER)
    whole = seconds
    if whole > left:
        least = _counted(models, images, costs, *sizes[0])
        without = left_out({part: least[part][0] for part in _ORDER}, left - least[overview.Clean][0])
        parts = [part for part in _ORDER if part not in without]
        while (seconds := total(counted, parts)[0]) > left and sizes:
            chosen = sizes.pop()
            counted = _counted(models, images, costs, *chosen)
        seconds, poses = total(counted, parts)
    cores = max(each.cores for each in costs.values())
    seconds, whole = besides + float(seconds), besides + float(whole)
    return ComparisonPlan(images, out_of, *chosen, without, seconds, whole, int(poses), cores, budget)


def _cost(model: RoleModel, images: LabelledImages, *, required: bool) -> Costs:
    """Return what a model costs; recorded predictions cost nothing.

    Unless that is `required`, it is NaN for a model without an answer in time; else this raises `InputError`.
    """
    if not model.provides.live:
        return Costs(0.0, 0.0, 0)
    try:
        return costs_of(model, images)
    except InputError as error:
        if required:
            raise InputError(f"{error.message} Or compare without a plan (--full).", code=error.code) from None
        return Costs(math.nan, math.nan, 0)


def _counted(
    models: Mapping[str, RoleModel], images: LabelledImages, costs: Mapping[str, Costs], curves: int, searched: int
) -> dict[object, np.ndarray]:
    """Return what each part asks for, of all models: seconds of the clock, and inputs to run models on.

    Failures are looked at in the poses of `Moved`.
    """
    counted: dict[object, np.ndarray] = {part: np.zeros(2) for part in (overview.Clean, *_ORDER)}
    (sample, fewer), probe = samples_of(images, curves), sample_up_to(images, searched)
    for name, model in models.items():
        planned = counting(model, ledger := Ledger())
        subject = overview.Subject(planned, images, sample, fewer, None, (), probe, probe)
        parts = sorted(overview.PARTS, key=lambda part: part.record is not overview.Clean)
        works: dict[Any, Callable[[], object]] = {part.record: partial(part.measure, subject) for part in parts}
        works[CONFIDENCE] = lambda planned=planned: planned.predict(images).probabilities  # type: ignore[misc]
        for record, work in works.items():
            with ledger.under(str(record)), suppress(Exception):  # It may fail for made-up predictions.
                work()
            asked = ledger.asked[str(record)]
            part = record if record in _ORDER else overview.Moved if record is overview.Failing else overview.Clean
            counted[part] += costs[name].seconds(asked), asked.poses + asked.maps
    return counted
