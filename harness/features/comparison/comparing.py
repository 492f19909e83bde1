"""Comparison of two models on the same images, planned before it runs: samples and parts that fit into a time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.data import sample_up_to
from harness.inference.devices import watched
from harness.inference.standins import Ledger, counting
from harness.measures.flips import Flips, flips
from harness.run.budget import REPORT_SECONDS, Costs, duration, in_cores
from harness.run.plan import costs_of
from harness.run.side_by_side import CONFIDENCE, CORNERS, measure_overview, sample_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.run.overview import Overview
    from harness.run.settings import ModelSettings

_SILENCE = 8.0
"""Seconds after which a line of progress says that something happens."""
_CLEAN = 0.5
"""Share of the time that clean images may take; of more, a sample is compared."""
_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Samples of clean images: few sizes, since another comparison then finds their predictions in the cache."""


@dataclass(frozen=True, eq=False)
class ComparisonPlan:
    """Plan of a comparison: its `images`, and how many of them at `corners` and for `confidences`, 0 for none.

    It takes `seconds` of the clock on so many `cores`, all of it `whole` seconds. `poses` are the inputs that models
    are run on. Without a `budget`, in seconds, all is measured.
    """

    images: LabelledImages
    out_of: int
    corners: int
    confidences: int
    seconds: float = 0.0
    whole: float = 0.0
    poses: int = 0
    cores: int = 1
    budget: float | None = None

    @property
    def lines(self) -> list[str]:
        """Return the plan as lines of text."""
        n = len(self.images)
        took = f"at most {duration(self.seconds)}" if self.seconds >= 1 else "about a second"
        took = "an unknown time" if math.isnan(self.seconds) else took
        of_all = f" of {self.out_of:,}" if n < self.out_of else ""
        posed = f", rotated and translated on {self.corners:,}" if self.corners else ""
        lines = [f"plan: {took} on {in_cores(self.cores)}: clean on {n:,}{of_all} images{posed}"]
        titles = [title for title, count in ((CORNERS, self.corners), (CONFIDENCE, self.confidences)) if not count]
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
    overview: Overview
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
    names = ["A", "B"] if names[0] == names[1] else names
    first, second = (replace(settings.open(path, images), role=name) for path, name in zip(paths, names, strict=True))
    if first.model_sha256 == second.model_sha256:
        raise InputError(f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare")
    models = {model.role: model for model in (first, second)}
    plan = plan_comparison(models, images, budget=budget, besides=time.process_time() - began + REPORT_SECONDS)
    on_planned(plan)
    with (
        Progress(total=plan.poses, unit="image", desc="comparing", delay=2, silence=_SILENCE) as bar,
        # Unclear answers are asked for twice, beyond the total.
        watched(lambda inputs: bar.update(min(inputs, plan.poses - bar.n))),
    ):
        measured = measure_overview(models, plan.images, corners=plan.corners, confidences=plan.confidences)
    mine, theirs = first.predict(plan.images), second.predict(plan.images)
    return Comparison(plan.images, (first, second), (mine, theirs), measured, flips(mine, theirs))


def plan_comparison(
    models: Mapping[str, RoleModel], images: LabelledImages, *, budget: float | None, besides: float = 0.0
) -> ComparisonPlan:
    """Return what fits into the budget, in seconds of the clock; measures a few batches of each model.

    `besides` is the part of the budget that the start and the page take. Cached predictions cost nothing. Clean images
    are always measured, a sample of them where all take too long. Without a budget, a model without an answer in time
    has no cost.
    """
    costs = {}
    for name, model in models.items():
        try:
            costs[name] = costs_of(model, images, maps=False) if model.provides.live else Costs(0.0, 0.0, 0)
        except InputError as error:
            if budget is not None:
                raise InputError(f"{error.message} Or compare without a plan (--full).", code=error.code) from None
            costs[name] = Costs(math.nan, math.nan, 0)

    def asked(measure: Callable[[Mapping[str, RoleModel]], object]) -> tuple[float, int]:
        """Return what is asked of all models: seconds of the clock, and inputs to run them on."""
        ledgers = {name: Ledger() for name in models}
        measure({name: counting(model, ledgers[name]) for name, model in models.items()})
        of = {name: ledger.now for name, ledger in ledgers.items()}
        return sum(costs[name].seconds(of[name]) for name in of), sum(each.poses for each in of.values())

    def clean(counted: Mapping[str, RoleModel]) -> None:
        for model in counted.values():
            model.predict(images)

    left, out_of, everything = math.inf if budget is None else max(budget - besides, 0.0), len(images), images
    for size in () if budget is None else (out_of, *(size for size in reversed(_SIZES) if size < out_of)):
        images = sample_up_to(everything, size)
        if asked(clean)[0] <= left * _CLEAN:
            break
    # The most telling last: confidence is left out before accuracy at corners.
    sizes = sample_sizes(images)
    options = [*((size, len(images)) for size in sizes), (sizes[-1], 0), (0, 0)]
    counts = [
        asked(partial(measure_overview, images=images, corners=corners, confidences=confidences))
        for corners, confidences in options
    ]
    at = next((at for at, (seconds, _) in enumerate(counts) if not seconds > left), len(options) - 1)
    seconds, poses = counts[at]
    cores = max(each.cores for each in costs.values())
    return ComparisonPlan(images, out_of, *options[at], besides + seconds, besides + counts[0][0], poses, cores, budget)
