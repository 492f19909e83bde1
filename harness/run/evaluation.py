"""Evaluation of one checkpoint: accuracy, clean and posed, its failures, and suspected label errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError, PanelError, printable
from harness.base.progress import Progress
from harness.checks import read_checks
from harness.data import stratified_sample
from harness.measures import accuracy, confident_errors
from harness.measures.accuracy import ClassificationReport, classification_report
from harness.measures.failures import FailureKind, FailureTable, confusion, failure_table, kinds_for
from harness.measures.panel.label_errors import (
    LabelErrors,
    WithoutLabelErrors,
    expect_asked,
    label_errors,
    owners,
    without,
)
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions
from harness.measures.worst_poses import PersistentFailures, persistent_failures
from harness.perturb import IDENTITY, Pose, augmentation_range_corners, augmentation_range_poses
from harness.run.settings import ModelSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier, Predictions


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation of one checkpoint.

    `on_grid` searches the 225 poses of the augmentation range. `failures` asks for tables of failures. With them,
    `pairs` of classes are further kinds, and `poses` (degrees, dx, dy in pixels) are listed, too. `label_errors` asks
    for suspected label errors, by the file `panel_predictions`. Its default is the file that `checks_path` names.
    """

    checkpoint: Path | str
    model: ModelSettings = field(default_factory=ModelSettings)
    on_grid: bool = False
    failures: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    poses: tuple[tuple[float, float, float], ...] = ()
    label_errors: bool = False
    panel_predictions: Path | None = None
    checks_path: Path = Path("stress_tests/checks.toml")

    def __post_init__(self) -> None:
        """Raise `InputError` for kinds or poses without failures, and for a pose that is not finite."""
        if (self.pairs or self.poses) and not self.failures:
            raise InputError("--pair and --pose say which failures to list; give --failures, too")
        for pose in self.poses:
            if not all(map(math.isfinite, pose)):
                raise InputError(
                    f"--pose {' '.join(f'{each:g}' for each in pose)}: expected finite numbers: degrees, and pixels to "
                    "the right and down"
                )


@dataclass(frozen=True)
class FoundFailures:
    """Failures by kind: `tables` hold those of the clean images for each of `kinds`, then those of each pose asked for.

    `posed` counts the failures of each kind over all `poses`, the clean images left out.
    """

    kinds: tuple[FailureKind, ...]
    tables: tuple[FailureTable, ...]
    posed: tuple[int, ...]
    poses: int
    persistent: PersistentFailures


@dataclass(frozen=True)
class FoundLabelErrors:
    """Suspected label errors, and what the model is without them; None with the reason why they are `missing`."""

    found: LabelErrors | None
    rest: WithoutLabelErrors | None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of one checkpoint; what was not asked for is None. `notes` are asides on the panel's predictions."""

    checkpoint: Path | str
    clean: Predictions
    clean_accuracy: float
    confident_errors: float | None
    report: ClassificationReport
    mean_pose_accuracy: float | None = None
    robust_accuracy: float | None = None
    failures: FoundFailures | None = None
    label_errors: FoundLabelErrors | None = None
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """Return the numbers of the whole by name, those that were not asked for left out."""
        found = {
            "clean_accuracy": self.clean_accuracy,
            "confident_errors": self.confident_errors,
            "mean_pose_accuracy": self.mean_pose_accuracy,
            "robust_accuracy": self.robust_accuracy,
        }
        return {name: value for name, value in found.items() if value is not None}


def evaluate(request: EvaluationRequest) -> Evaluation:
    """Evaluate a checkpoint; raises `InputError` for refused files, and where label errors need a missing panel."""
    everything = request.model.all_images()
    samples = request.model.samples
    images = everything if samples is None else stratified_sample(everything, samples)
    model = request.model.open(request.checkpoint, images)
    clean = model.classifier.predict(images)
    panel, notes = None, []
    if request.failures or request.label_errors:
        try:
            panel = _panel_predictions(request, everything, model.model_sha256)
        except InputError as error:
            if request.panel_predictions is not None:
                raise
            notes.append(f"whose errors these are is not told: {printable(error)}")
    if request.label_errors and panel is None:
        raise PanelError(
            "--label-errors: no panel predictions of these images were found; name the file with "
            "--panel-predictions, which `stress-harness calibrate` leaves beside the panel",
            below=notes,
        )
    kinds = _kinds(request, clean, panel) if request.failures else ()
    corners = (IDENTITY, *augmentation_range_corners()) if request.failures else ()
    posed = _posed(model.classifier, clean, augmentation_range_poses() if request.on_grid else corners, kinds)
    correct = posed.predicted == clean.labels[:, None]
    return Evaluation(
        request.checkpoint,
        clean,
        accuracy(clean).value,
        confident_errors(clean, above=0.9).value if clean.has_confidence else None,
        classification_report(clean),
        float(correct.mean()) if request.on_grid else None,
        float(correct.all(axis=1).mean()) if request.on_grid else None,
        _failures(request, model.classifier, clean, kinds, posed) if request.failures else None,
        _label_errors(clean, panel, everything) if request.label_errors and panel else None,
        tuple(notes),
    )


def _panel_predictions(request: EvaluationRequest, images: LabelledImages, sha256: str) -> PanelPredictions | None:
    """Return the panel's predictions of all images of the split, without those of the model with this hash.

    None if no file is named. Raises `InputError` for a file that cannot be used.
    """
    named, path = request.panel_predictions, request.checks_path
    checks = read_checks(path) if path.exists() and named is None else None
    found = checks.panel_predictions if checks else named
    if found is None or not (named or found.exists()):
        return None
    read = read_panel_predictions(found)
    if checks:
        checks.expect_panel_predictions(found, read.sha256)
    others = read.without(sha256)
    try:
        others.expect(images)
        expect_asked(images, others)
    except InputError as error:
        raise PanelError(f"{found}: {error}") from None
    return others


def _kinds(request: EvaluationRequest, clean: Predictions, panel: PanelPredictions | None) -> tuple[FailureKind, ...]:
    owned = None if panel is None else owners(clean, panel)
    return *kinds_for(clean, owned), *(confusion(*pair) for pair in request.pairs)


@dataclass(frozen=True, eq=False)
class _Posed:
    """Predictions in P poses: classes `predicted`, (N, P) int32, and `failures` by kind in the `moved` poses."""

    predicted: np.ndarray
    moved: int
    failures: tuple[int, ...]


def _posed(classifier: Classifier, clean: Predictions, poses: Sequence[Pose], kinds: Sequence[FailureKind]) -> _Posed:
    """Predict in one pose after the other: the predictions of 50,000 images of 1,000 classes take 200 MB."""
    predicted, failures = np.empty((len(clean.labels), len(poses)), dtype=np.int32), np.zeros(len(kinds), dtype=int)
    for at, pose in enumerate(Progress(poses, unit="pose", delay=2, disable=not poses)):
        seen = clean if pose == IDENTITY else classifier.predict(clean.images, pose, keep=False)
        predicted[:, at] = seen.predicted
        if pose != IDENTITY:
            failures += np.array([kind.among(seen).sum() for kind in kinds], dtype=int)
    return _Posed(predicted, sum(pose != IDENTITY for pose in poses), tuple(failures.tolist()))


def _failures(
    request: EvaluationRequest,
    classifier: Classifier,
    clean: Predictions,
    kinds: tuple[FailureKind, ...],
    posed: _Posed,
) -> FoundFailures:
    moved = (classifier.predict(clean.images, Pose(*pose), keep=False) for pose in request.poses)
    tables = tuple(failure_table(each, kind) for each in chain([clean], moved) for kind in kinds)
    persistent = persistent_failures(clean.images, posed.predicted)
    return FoundFailures(kinds, tables, posed.failures, posed.moved, persistent)


def _label_errors(clean: Predictions, panel: PanelPredictions, everything: LabelledImages) -> FoundLabelErrors:
    try:
        found = label_errors(clean.images, panel, everything.labels.numpy())
    except NotApplicableError as error:
        return FoundLabelErrors(None, None, str(error))
    return FoundLabelErrors(found, without(clean, panel, found))
