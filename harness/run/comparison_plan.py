"""The plan of a comparison: what fits into a time, and on how many images, before any model has run through them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.data import sample_up_to
from harness.inference.ledger import Ledger
from harness.inference.standins import counting
from harness.run.budget import Costs, duration, in_cores
from harness.run.plan import costs_of
from harness.run.side_by_side import CONFIDENCE, CORNERS, measure_overview, sample_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data import LabelledImages
    from harness.inference import RoleModel

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
        parts = [f"clean on {n:,} of {self.out_of:,} images" if n < self.out_of else f"clean on {n:,} images"]
        if self.corners:
            parts.append(f"rotated and translated on {self.corners:,}")
        took = f"at most {duration(self.seconds)}" if self.seconds >= 1 else "about a second"
        took = "an unknown time" if math.isnan(self.seconds) else took
        lines = [f"plan: {took} on {in_cores(self.cores)}: {', '.join(parts)}"]
        titles = [title for title, count in ((CORNERS, self.corners), (CONFIDENCE, self.confidences)) if not count]
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
    # The most telling last: confidence is left out before accuracy at corners.
    sizes = sample_sizes(some)
    options = [*((size, len(some)) for size in sizes), (sizes[-1], 0), (0, 0)]
    counted = {option: _counted(models, some, costs, *option) for option in options}
    corners, confidences = next((option for option in options if not counted[option][0] > left), options[-1])
    seconds, poses = counted[corners, confidences]
    return ComparisonPlan(
        some,
        len(images),
        corners,
        confidences,
        besides + seconds,
        besides + counted[options[0]][0],
        poses,
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
    models: Mapping[str, RoleModel], images: LabelledImages, costs: Mapping[str, Costs], corners: int, confidences: int
) -> tuple[float, int]:
    """Return what an overview asks for, of all models: seconds of the clock, and inputs to run models on."""
    ledgers = {name: Ledger() for name in models}
    planned = {name: counting(model, ledgers[name]) for name, model in models.items()}
    measure_overview(planned, images, corners=corners, confidences=confidences)
    asked = {name: ledger.now for name, ledger in ledgers.items()}
    return sum(costs[name].seconds(asked[name]) for name in asked), sum(each.poses for each in asked.values())
