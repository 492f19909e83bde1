"""Comparison of two models on the same images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.progress import Progress
from harness.inference.devices import watched
from harness.measures.flips import Flips, flips
from harness.run.side_by_side import measure_overview

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.run.overview import Overview
    from harness.run.settings import ModelSettings

_SILENCE = 8.0
"""Seconds after which a line of progress says that something happens."""


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Two models on the same images, the candidate first: measured side by side, and the predictions that differ.

    `changed` are the flips from the second model to the first.
    """

    images: LabelledImages
    models: tuple[RoleModel, RoleModel]
    predictions: tuple[Predictions, Predictions]
    overview: Overview
    changed: Flips


def compare(paths: tuple[Path | str, Path | str], settings: ModelSettings) -> ModelComparison:
    """Compare two checkpoints; raises `InputError` for one that is refused, and where both hold the same network."""
    images = settings.images()
    names = [path if isinstance(path, str) else path.stem for path in paths]
    names = ["A", "B"] if names[0] == names[1] else names
    first, second = (
        replace(settings.open(path, images), role=name)
        for path, name in zip(paths, names, strict=True)
    )
    if first.model_sha256 == second.model_sha256:
        raise InputError(
            f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare"
        )
    with (
        Progress(unit="image", desc="comparing", delay=2, silence=_SILENCE) as bar,
        watched(bar.update),
    ):
        measured = measure_overview({model.role: model for model in (first, second)}, images)
    mine, theirs = first.predict(images), second.predict(images)
    return ModelComparison(images, (first, second), (mine, theirs), measured, flips(mine, theirs))
