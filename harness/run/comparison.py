"""Comparison of two checkpoints by their predictions on the same images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.checks.roles import INCUMBENT, ROLES
from harness.data import sample_up_to
from harness.data.options import DataOptions
from harness.measures.failures import FailureChanges, failure_changes, kinds_for
from harness.measures.flips import Flips, flips
from harness.run.examples import spoken_of, thumbnails_of
from harness.run.model_settings import ModelSettings
from harness.run.overview import Overview, measure_overview
from harness.run.session import PROBE_SAMPLES

if TYPE_CHECKING:
    import numpy as np

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel


@dataclass(frozen=True)
class ComparisonRequest:
    """A comparison of a candidate with another checkpoint; None for the last accepted one."""

    candidate: Path | str
    other: Path | str | None = None
    model: ModelSettings = field(default_factory=ModelSettings)

    @property
    def paths(self) -> tuple[Path | str, Path | str]:
        """Return both checkpoints; raises `InputError` where no incumbent exists, or not the declared one."""
        if self.other is not None:
            return self.candidate, self.other
        models, role = Path("models"), ROLES[INCUMBENT]
        if (declared := role.declared(models)) is not None:
            declared.expect_weights()
        incumbent = role.default(models, shipped_data=self.model.data.spec == DataOptions().spec)
        if incumbent is None:
            raise InputError(
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


def compare(request: ComparisonRequest) -> Comparison:
    """Compare two checkpoints; raises `InputError` for one that is refused, and where both hold the same network."""
    images = request.model.images()
    models = _models(request.paths, request.model, images)
    overview = _overview({model.role: model for model in models}, images)
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


def _overview(models: dict[str, RoleModel], images: LabelledImages) -> Overview:
    probe = sample_up_to(images, PROBE_SAMPLES)
    with Progress(total=None, unit="step", desc="comparing", delay=2) as bar:

        def advance(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return measure_overview(
            models,
            images,
            survival=dict.fromkeys(models, probe),
            robust=dict.fromkeys(models, probe),
            on_measured=advance,
        )
