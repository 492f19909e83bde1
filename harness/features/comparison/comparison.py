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
    """Two models on the same images, the candidate first.

    Attributes:
        images: The images.
        models: The models.
        predictions: Their predictions of the clean images.
        overview: Both models, measured side by side.
        changed: The flips from the second model to the first.
    """

    images: LabelledImages
    models: tuple[RoleModel, RoleModel]
    predictions: tuple[Predictions, Predictions]
    overview: Overview
    changed: Flips


def compare(paths: tuple[Path | str, Path | str], settings: ModelSettings) -> ModelComparison:
    """Compare two checkpoints.

    Raises:
        InputError: If a checkpoint is refused, or both hold the same network.
    """
    images = settings.images()
    names = [path if isinstance(path, str) else path.stem for path in paths]
    if names[0] == names[1]:
        names = ["A", "B"]

    first, second = (
        replace(settings.open(path, images), role=name)
        for path, name in zip(paths, names, strict=True)
    )
    if first.model_sha256 == second.model_sha256:
        raise InputError(
            f"{paths[0]} and {paths[1]} hold the same network; there is nothing to compare"
        )

    progress = Progress(unit="image", desc="comparing", delay=2, silence=_SILENCE)
    with progress as bar, watched(bar.update):
        overview = measure_overview({model.role: model for model in (first, second)}, images)

    predictions = first.predict(images), second.predict(images)
    return ModelComparison(images, (first, second), predictions, overview, flips(*predictions))
