"""Comparison of two checkpoints by their predictions on the same images."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import IncumbentError, InputError
from harness.base.progress import Progress
from harness.checks.roles import INCUMBENT, ROLES
from harness.data.options import DataOptions
from harness.inference.devices import watched
from harness.measures.failures import FailureChanges, failure_changes, kinds_for
from harness.measures.flips import Flips, flips
from harness.run.budget import REPORT_SECONDS
from harness.run.comparison_plan import ComparisonPlan, plan_comparison
from harness.run.examples import spoken_of, thumbnails_of
from harness.run.settings import ModelSettings
from harness.run.side_by_side import measure_overview

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.run.overview import Overview

_SILENCE = 8.0
"""Seconds after which a line of progress says that something happens."""


@dataclass(frozen=True)
class ComparisonRequest:
    """A comparison of a candidate with another checkpoint; None for the last accepted one.

    It takes at most the `budget`, in seconds of the clock, by samples and without some parts; None measures all.
    """

    candidate: Path | str
    other: Path | str | None = None
    model: ModelSettings = field(default_factory=ModelSettings)
    budget: float | None = None

    @property
    def paths(self) -> tuple[Path | str, Path | str]:
        """Return both checkpoints; raises `InputError` where no incumbent exists, or not the declared one."""
        if self.other is not None:
            return self.candidate, self.other
        models, role = Path("models"), ROLES[INCUMBENT]
        if (declared := role.declared(models)) is not None:
            declared.expect_weights()
        incumbent = role.default(models, shipped_data=self.model.data == DataOptions().data)
        if incumbent is None:
            raise IncumbentError(
                "there is no incumbent yet to compare with: `stress-harness accept` makes one; or name two"
            )
        return self.candidate, incumbent


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

    @property
    def facts(self) -> dict[str, str]:
        """Return what was compared, by title."""
        return {
            **{model.role: f"{model.path} ({model.sha256[:12]})" for model in self.models},
            "data": f"{self.images.name}, {self.images.split} split, {len(self.images)} images",
        }

    @property
    def thumbnails(self) -> dict[int | str, np.ndarray]:
        """Return the images that the overview names, (H, W, C) uint8 by their number."""
        return thumbnails_of(self.images, spoken_of(self.overview))

    def failure_changes(self) -> list[FailureChanges]:
        """Return the new, fixed and shared failures of each kind."""
        mine, theirs = self.predictions
        return [failure_changes(mine, theirs, kind) for kind in kinds_for(mine)]


def compare(
    request: ComparisonRequest,
    *,
    on_planned: Callable[[ComparisonPlan], None] = lambda _: None,
    began: float | None = None,
) -> Comparison:
    """Compare two checkpoints; raises `InputError` for one that is refused, and where both hold the same network.

    `on_planned` is called with what is going to be measured, before it is. `began` is the time of this process, in
    seconds of one core, that the budget counts from (default: now).
    """
    began = time.process_time() if began is None else began
    images = request.model.images()
    models = _models(request.paths, request.model, images)
    named = {model.role: model for model in models}
    besides = time.process_time() - began + REPORT_SECONDS
    plan = plan_comparison(named, images, budget=request.budget, besides=besides)
    on_planned(plan)
    overview, images = _overview(named, plan), plan.images
    mine, theirs = (model.predict(images) for model in models)
    return Comparison(images, models, (mine, theirs), overview, flips(mine, theirs))


def _models(
    paths: tuple[Path | str, Path | str], settings: ModelSettings, images: LabelledImages
) -> tuple[RoleModel, RoleModel]:
    """Load both checkpoints, named by their files, or by A and B where the names are the same."""
    names = [path if isinstance(path, str) else path.stem for path in paths]
    if names[0] == names[1]:
        names = ["A", "B"]
    first, second = (settings.open(path, images) for path in paths)
    if first.model_sha256 == second.model_sha256:
        raise InputError(f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare")
    return replace(first, role=names[0]), replace(second, role=names[1])


def _overview(models: dict[str, RoleModel], plan: ComparisonPlan) -> Overview:
    """Measure what is planned; a line of progress follows the last within ten seconds, as long as batches do."""
    with Progress(total=plan.poses, unit="image", desc="comparing", delay=2, silence=_SILENCE) as bar:

        def advance(inputs: int) -> None:
            bar.update(min(inputs, plan.poses - bar.n))  # Unclear answers are asked for twice.

        with watched(advance):
            return measure_overview(models, plan.images, corners=plan.corners, confidences=plan.confidences)
