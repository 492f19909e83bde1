"""Evaluation of one checkpoint: accuracy, failures, suspected label errors, and the least poses that break it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import InputError, NotApplicableError, PanelError, printable
from harness.base.progress import Progress
from harness.checks import read_checks
from harness.data import stratified_sample
from harness.data.images import unit_range
from harness.inference.search import Breaking, breaking, first_failures
from harness.measures import accuracy, confident_errors
from harness.measures.accuracy import ClassificationReport, classification_report
from harness.measures.failures import (
    Answer,
    FailureKind,
    FailureTable,
    answers_at,
    confusion,
    failure_table,
    kinds_for,
)
from harness.measures.panel.label_errors import (
    LabelErrors,
    WithoutLabelErrors,
    label_errors,
    owners,
    without,
)
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions
from harness.measures.worst_poses import PersistentFailures, persistent_failures
from harness.perturb import IDENTITY, Pose, augmentation_range_corners, augmentation_range_poses
from harness.perturb.grids import PATHS, SeverityPath, fine_paths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier, Predictions
    from harness.run.settings import ModelSettings

CHECKS = Path("stress_tests/checks.toml")


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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Results of one checkpoint: `numbers` of the whole by name; what was not asked for is absent, or None.

    `label_errors` are the suspected ones, with the measures `without` them, or the reason why they are missing. `notes`
    are asides on the panel's predictions.
    """

    checkpoint: Path | str
    clean: Predictions
    numbers: dict[str, float]
    report: ClassificationReport
    failures: FoundFailures | None = None
    label_errors: tuple[LabelErrors, WithoutLabelErrors] | str | None = None
    notes: tuple[str, ...] = ()


def evaluate(
    checkpoint: Path | str,
    settings: ModelSettings,
    *,
    on_grid: bool = False,
    failures: bool = False,
    pairs: Sequence[tuple[str, str]] = (),
    poses: Sequence[tuple[float, float, float]] = (),
    find_label_errors: bool = False,
    panel_predictions: Path | None = None,
) -> Evaluation:
    """Evaluate a checkpoint; raises `InputError` for refused files, and where label errors need a missing panel.

    `on_grid` searches the 225 poses of the augmentation range. `failures` asks for tables of failures. With them,
    `pairs` of classes are further kinds, and `poses` (degrees, dx, dy in pixels) are listed, too. Label errors are
    found by the file `panel_predictions`, by default the one that the checks file names.
    """
    if (pairs or poses) and not failures:
        raise InputError("--pair and --pose say which failures to list; give --failures, too")
    if odd := next((pose for pose in poses if not all(map(math.isfinite, pose))), None):
        expected = "expected finite numbers: degrees, and pixels to the right and down"
        raise InputError(f"--pose {' '.join(f'{each:g}' for each in odd)}: {expected}")
    everything = settings.all_images()
    images = everything if settings.samples is None else stratified_sample(everything, settings.samples)
    model = settings.open(checkpoint, images)
    classifier, clean = model.classifier, model.classifier.predict(images)
    panel, notes, kinds = None, list[str](), tuple[FailureKind, ...]()
    if failures or find_label_errors:
        try:
            panel = _panel_predictions(panel_predictions, everything, model.model_sha256)
        except InputError as error:
            if panel_predictions is not None:
                raise
            notes.append(f"whose errors these are is not told: {printable(error)}")
    if find_label_errors and panel is None:
        raise PanelError(
            "--label-errors: no panel predictions of these images were found; name the file with "
            "--panel-predictions, which `stress-harness calibrate` leaves beside the panel",
            below=notes,
        )
    if failures:
        owned = None if panel is None else owners(clean, panel)
        kinds = *kinds_for(clean, owned), *(confusion(*pair) for pair in pairs)
    grid = augmentation_range_poses() if on_grid else (IDENTITY, *augmentation_range_corners()) if failures else ()
    predicted, posed = _posed(classifier, clean, grid, kinds)
    numbers = {"clean_accuracy": accuracy(clean).value}
    if clean.has_confidence:
        numbers["confident_errors"] = confident_errors(clean, above=0.9).value
    if on_grid:
        correct = predicted == clean.labels[:, None]
        numbers["mean_pose_accuracy"] = float(correct.mean())
        numbers["robust_accuracy"] = float(correct.all(axis=1).mean())
    found = None
    unlikely: tuple[LabelErrors, WithoutLabelErrors] | str | None = None
    if failures:
        more = (classifier.predict(images, Pose(*pose), keep=False) for pose in poses)
        tables = tuple(failure_table(each, kind) for each in chain([clean], more) for kind in kinds)
        moved = sum(pose != IDENTITY for pose in grid)
        found = FoundFailures(kinds, tables, posed, moved, persistent_failures(images, predicted))
    if find_label_errors and panel is not None:
        try:
            suspected = label_errors(images, panel, everything.labels.numpy())
            unlikely = suspected, without(clean, panel, suspected)
        except NotApplicableError as error:
            unlikely = str(error)
    return Evaluation(checkpoint, clean, numbers, classification_report(clean), found, unlikely, tuple(notes))


def _posed(
    classifier: Classifier, clean: Predictions, poses: Sequence[Pose], kinds: Sequence[FailureKind]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the classes predicted in P poses, (N, P) int32, and the failures by kind in all but the identity."""
    predicted, failures = np.empty((len(clean.labels), len(poses)), dtype=np.int32), np.zeros(len(kinds), dtype=int)
    for at, pose in enumerate(Progress(poses, unit="pose", delay=2, disable=not poses)):
        seen = clean if pose == IDENTITY else classifier.predict(clean.images, pose, keep=False)
        predicted[:, at] = seen.predicted
        if pose != IDENTITY:
            failures += np.array([kind.among(seen).sum() for kind in kinds], dtype=int)
    return predicted, tuple(failures.tolist())


def _panel_predictions(named: Path | None, images: LabelledImages, sha256: str) -> PanelPredictions | None:
    """Return the panel's predictions of all images of the split, without those of the model with this hash.

    None if no file is named. Raises `InputError` for a file that cannot be used.
    """
    checks = read_checks(CHECKS) if CHECKS.exists() and named is None else None
    found = checks.panel_predictions if checks else named
    if found is None or not (named or found.exists()):
        return None
    read = read_panel_predictions(found)
    if checks:
        checks.expect_panel_predictions(found, read.sha256)
    others = read.without(sha256)
    try:
        others.expect(images)
        others.clean(images)
    except InputError as error:
        raise PanelError(f"{found}: {error}") from None
    return others


@dataclass(frozen=True, eq=False)
class Broken:
    """The first pose of a path at which an image fails, the image there, (H, W, C) uint8, and the prediction."""

    pose: Pose
    pixels: np.ndarray
    answer: Answer


@dataclass(frozen=True, eq=False)
class BrokenImage:
    """One image, (H, W, C) uint8: its clean prediction, and how each path breaks it; None where it does not.

    `by` is empty for an image that is misclassified without any perturbation.
    """

    number: int
    clean: Answer
    pixels: np.ndarray
    by: tuple[tuple[SeverityPath, Broken | None], ...]


def break_image(checkpoint: Path | str, settings: ModelSettings, number: int) -> BrokenImage:
    """Find how little breaks one image; raises `InputError` for a number that no image has."""
    images = settings.all_images()
    classifier = settings.open(checkpoint, images).classifier
    if not 0 <= number < len(images):
        raise InputError(f"--image {number}: the data have images 0 to {len(images) - 1}")
    image = images.take(torch.tensor([number]))

    def seen_at(pose: Pose) -> Broken:
        pixels = pose(unit_range(image.pixels)).mul(255).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()
        return Broken(pose, pixels, answers_at(classifier.predict(image, pose), np.zeros(1, dtype=np.int64))[0])

    clean = answers_at(classifier.predict(image), np.zeros(1, dtype=np.int64))[0]
    found: list[tuple[SeverityPath, Broken | None]] = []
    for path in fine_paths() if clean.predicted == clean.true else ():
        failure = first_failures(classifier, image, path.poses)
        found.append((path, None if failure.right_everywhere[0] else seen_at(failure.perturbation_of(0))))
    return BrokenImage(number, clean, image.pixels[0].permute(1, 2, 0).numpy(), tuple(found))


def survival(checkpoint: Path | str, settings: ModelSettings) -> tuple[int, tuple[Breaking, ...]]:
    """Find for each image the least severity of each path that breaks it; return the number of images and the curves.

    Raises `InputError` where no clean image is classified correctly.
    """
    images, curves, total = settings.images(), list[Breaking](), sum(len(path.poses) + 1 for path in PATHS.values())
    classifier = settings.open(checkpoint, images).classifier
    with Progress(total=total, unit="pose", desc="turning and moving") as bar:
        for path in PATHS.values():
            begun = bar.n
            moved = partial(lambda begun, now: bar.update(begun + now - bar.n), begun)
            curves.append(breaking(classifier, images, path, on_evaluated=moved))
            moved(len(path.poses) + 1)
    return len(images), tuple(curves)
