"""Evaluation of one checkpoint: accuracy, failures and suspected label errors."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, NotApplicableError, PanelError, printable
from harness.base.outputs import OutputKind, table_kind
from harness.base.progress import Progress
from harness.base.records import as_plain
from harness.checks import read_checks
from harness.data import stratified_sample
from harness.features.evaluation.per_image import per_image
from harness.inference.predictors.protocol import NO_CLASSES
from harness.measures import accuracy, confident_errors
from harness.measures.accuracy import classification_report
from harness.measures.failures import FailureKind, confusion, failure_table, kinds_for
from harness.measures.panel.label_errors import label_errors, owners, without
from harness.measures.panel.predictions import PanelPredictions, read_panel_predictions
from harness.measures.worst_poses import PersistentFailures, persistent_failures
from harness.perturb import IDENTITY, Pose, augmentation_range_corners, augmentation_range_poses
from harness.perturb.grids import why_no_corners
from harness.report.exports import (
    confusions_rows,
    failures_csv,
    failures_markdown,
    label_errors_csv,
    label_errors_rows,
    persistent_csv,
    scores_csv,
    scores_rows,
)
from harness.report.page import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference import Classifier, Predictions
    from harness.measures.panel.label_errors import WithoutLabelErrors
    from harness.run.settings import ModelSettings

CHECKS = Path("stress_tests/checks.toml")
_CONFUSIONS = 12
"""Confusions of persistent failures that the terminal shows; the file has all."""
_LABEL_ERRORS = 20
"""Suspected label errors that the terminal shows; the file has all."""
_LABEL_ERRORS_FILE = "label_errors.csv"
_OF_FAILURES = {
    "failures.csv": table_kind("a table of failures", "kind,seen,image"),
    "persistent.csv": table_kind("a table of persistent failures", "image,true,predicted"),
    "classes.csv": table_kind("a table of classes", "class,precision,recall"),
    "failures.md": OutputKind("a list of failures", rb"# Failures of "),
}
_OF_LABELS = table_kind("a table of suspected label errors", "image,label,reference answer")
FILES = {**_OF_FAILURES, _LABEL_ERRORS_FILE: _OF_LABELS}
"""The kind of each file that an evaluation may leave, by its name."""


@dataclass(frozen=True)
class Part:
    """A part of an evaluation.

    Attributes:
        plain: Its results in plain types, for JSON.
        lines: The same as lines for the terminal.
        files: Contents of files, by their names.
    """

    plain: Mapping[str, Any]
    lines: Sequence[str] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)


def evaluate(
    checkpoint: Path | str,
    settings: ModelSettings,
    *,
    on_grid: bool = False,
    per_class: bool = False,
    failures: bool = False,
    pairs: Sequence[tuple[str, str]] = (),
    poses: Sequence[tuple[float, float, float]] = (),
    find_label_errors: bool = False,
    panel_predictions: Path | None = None,
    folder: Path = Path("reports/failures"),
    images_table: Path | None = None,
) -> tuple[list[Part], list[str]]:
    """Evaluate a checkpoint.

    Args:
        checkpoint: The checkpoint.
        settings: The data and how the model is run.
        on_grid: Whether the poses of the augmentation range, 225 by default, are searched.
        per_class: Whether to add precision and recall of each class.
        failures: Whether to add tables of failures.
        pairs: Pairs of classes whose confusions are further kinds of failures.
        poses: Poses (degrees, dx, dy in pixels) whose failures are listed, too.
        find_label_errors: Whether to add suspected label errors.
        panel_predictions: The panel's predictions, by default the file that the checks file names.
        folder: The folder for tables of failures and label errors.
        images_table: The file for the results of each image, clean and in these poses.

    Returns:
        The requested parts, and notes on the panel's predictions.

    Raises:
        InputError: If a file is refused, an option needs another, or label errors need a panel
            that is missing.
    """
    if (pairs or (poses and not images_table)) and not failures:
        raise InputError("--pair and --pose say which failures to list; give --failures, too")
    _expect_finite(poses)

    all_images = settings.all_images()
    images = all_images
    if settings.samples is not None:
        images = stratified_sample(all_images, settings.samples)
    model = settings.open(checkpoint, images)
    clean = model.classifier.predict(images)

    panel, notes = None, list[str]()
    if failures or find_label_errors:
        panel, notes = _panel_or_notes(panel_predictions, all_images, model.model_sha256)
    if find_label_errors and panel is None:
        raise PanelError(
            "--label-errors: no panel predictions of these images were found; name the file with "
            "--panel-predictions, which `stress-harness calibrate` leaves beside the panel",
            below=notes,
        )

    kinds = _kinds(clean, panel, pairs) if failures else ()
    no_corners = why_no_corners(images)
    if failures and no_corners and not on_grid:
        notes.append(f"failures are of clean images alone: {no_corners}")

    grid = _poses_of(images, on_grid=on_grid, failures=failures)
    predicted, failures_in_poses = _search(model.classifier, images, clean, grid, kinds)

    parts = [_numbers(clean, predicted if on_grid else None)]
    if per_class:
        report = classification_report(clean)
        parts.append(Part({"classes": asdict(report)}, ["", *aligned(scores_rows(report))]))

    posed = [model.classifier.predict(images, Pose(*pose), keep=False) for pose in poses]
    views = [clean, *posed]
    if images_table:
        parts.append(_table_of(views, images_table))
    if failures:
        part = _failures(
            checkpoint,
            views,
            kinds,
            persistent_failures(images, predicted),
            in_poses=failures_in_poses,
            n_poses=sum(pose != IDENTITY for pose in grid),
            folder=folder,
        )
        parts.append(part)
    if find_label_errors and panel is not None:
        parts.append(_label_errors(clean, panel, all_images.labels.numpy(), folder))
    return parts, notes


def _expect_finite(poses: Sequence[tuple[float, float, float]]) -> None:
    """Raise `InputError` for a pose with a number that is not finite."""
    for pose in poses:
        if not all(map(math.isfinite, pose)):
            numbers = " ".join(f"{number:g}" for number in pose)
            raise InputError(
                f"--pose {numbers}: expected finite numbers: degrees, and pixels to the right "
                "and down"
            )


def _panel_or_notes(
    path: Path | None, images: LabelledImages, sha256: str
) -> tuple[PanelPredictions | None, list[str]]:
    """Return the panel's predictions, or None and the reason if the default file is refused."""
    try:
        return _panel_predictions(path, images, sha256), []
    except InputError as error:
        if path is not None:
            raise
        return None, [f"whose errors these are is not told: {printable(error)}"]


def _kinds(
    clean: Predictions, panel: PanelPredictions | None, pairs: Sequence[tuple[str, str]]
) -> tuple[FailureKind, ...]:
    """Return the kinds of failures that are counted; pairs of classes are further ones."""
    error_owners = None if panel is None else owners(clean, panel)
    return *kinds_for(clean, error_owners), *(confusion(*pair) for pair in pairs)


def _search(
    classifier: Classifier,
    images: LabelledImages,
    clean: Predictions,
    grid: Sequence[Pose],
    kinds: Sequence[FailureKind],
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the images in the poses of a grid.

    Returns:
        The predicted classes, (N, P) int32, and the number of failures of each kind in all poses
        but the clean one.
    """
    predicted = np.empty((len(images), len(grid)), dtype=np.int32)
    counts = np.zeros(len(kinds), dtype=int)
    for column, pose in enumerate(Progress(grid, unit="pose", delay=2, disable=not grid)):
        if pose == IDENTITY:
            predicted[:, column] = clean.predicted
            continue

        posed = classifier.predict(images, pose, keep=False)
        predicted[:, column] = posed.predicted
        counts += np.array([kind.among(posed).sum() for kind in kinds], dtype=int)
    return predicted, counts


def _poses_of(images: LabelledImages, *, on_grid: bool, failures: bool) -> tuple[Pose, ...]:
    """Return the poses that are searched, or those in which failures are counted."""
    within = images.domain.augmentation
    if on_grid:
        return augmentation_range_poses(within)
    if not failures:
        return ()
    if why_no_corners(images):
        return (IDENTITY,)
    return (IDENTITY, *augmentation_range_corners(within))


def _table_of(views: Sequence[Predictions], path: Path) -> Part:
    """Return the table of each image in each view."""
    written = f"{sum(len(view.labels) for view in views):,} rows written: {path}"
    return Part({"per_image": str(path)}, [written], {str(path): per_image(views, path)})


def _panel_predictions(
    named: Path | None, images: LabelledImages, sha256: str
) -> PanelPredictions | None:
    """Return the panel's predictions of all images of the split; None if no file is named.

    Those of the model with this hash are left out. Raises `InputError` for a file that cannot be
    used.
    """
    checks = read_checks(CHECKS) if CHECKS.exists() and named is None else None
    path = checks.panel_predictions if checks else named
    if path is None or not (named or path.exists()):
        return None

    panel = read_panel_predictions(path)
    if checks:
        checks.expect_panel_predictions(path, panel.sha256)

    others = panel.without(sha256)
    try:
        others.expect(images)
        others.clean(images)
    except InputError as error:
        raise PanelError(f"{path}: {error}") from None
    return others


def _numbers(clean: Predictions, on_grid: np.ndarray | None) -> Part:
    """Return accuracy and confident errors, and accuracy on a grid of poses.

    Args:
        clean: Predictions of the clean images.
        on_grid: The classes predicted in P poses, (N, P); None if no grid was searched.
    """
    numbers = {"clean_accuracy": accuracy(clean).value}
    if clean.has_confidence:
        numbers["confident_errors"] = confident_errors(clean, above=0.9).value
    if on_grid is not None:
        correct = on_grid == clean.labels[:, None]
        numbers["mean_pose_accuracy"] = float(correct.mean())
        numbers["robust_accuracy"] = float(correct.all(axis=1).mean())
    lines = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in numbers.items()]
    if not clean.has_confidence:
        reason = NO_CLASSES if clean.scored else "the predictor returns labels only"
        lines.append(f"confident errors: not applicable, {reason}")
    return Part(numbers, lines)


def _failures(
    checkpoint: Path | str,
    views: Sequence[Predictions],
    kinds: Sequence[FailureKind],
    persistent: PersistentFailures,
    *,
    in_poses: np.ndarray,
    n_poses: int,
    folder: Path,
) -> Part:
    """Return the failures of each kind in each view, and the persistent ones.

    Args:
        checkpoint: The checkpoint.
        views: Predictions of the images, clean and then in the listed poses.
        kinds: The kinds of failures.
        persistent: Images that the checkpoint gets wrong in most poses of the grid.
        in_poses: The failures of each kind in the poses of the grid that are not clean, (kinds,).
        n_poses: The number of these poses.
        folder: The folder of the files.
    """
    report = classification_report(views[0])
    tables = tuple(failure_table(view, kind) for view in views for kind in kinds)
    listed = failures_markdown(f"Failures of {checkpoint}", report, tables, persistent)
    contents = failures_csv(tables), persistent_csv(persistent), scores_csv(report), listed
    files = dict(zip(_OF_FAILURES, contents, strict=True))

    # The tables are in the order of the views; those of a view have the order of the kinds.
    titles = [f"failures of {report.n} images", *(table.seen for table in tables[:: len(kinds)])]
    rows: list[list[object]] = []
    for number, kind in enumerate(kinds):
        row = [kind.name, *(len(table.rows) for table in tables[number :: len(kinds)])]
        if n_poses:
            row.append(f"{in_poses[number] / n_poses:.1f}")
        rows.append(row)
    if n_poses:
        titles.append(f"mean of {n_poses} poses")
    lines = ["", *aligned([titles, *rows]), ""]

    if n_poses:
        lines += _lines_of_persistent(persistent)
    paths = [str(folder / name) for name in files]
    lines.append(f"written: {', '.join(paths)}")
    plain = {
        "failures": [asdict(table) for table in tables],
        "persistent": asdict(persistent),
        "files": paths,
    }
    return Part(plain, lines, files)


def _lines_of_persistent(persistent: PersistentFailures) -> list[str]:
    """Return the persistent failures as lines for the terminal, by confusions."""
    lines = [
        f"wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} "
        "images"
    ]
    groups = confusions_rows(persistent)
    if groups:
        lines += aligned(groups[:_CONFUSIONS], text=(0, 2))
    if len(groups) > _CONFUSIONS:
        lines.append(f"and {len(groups) - _CONFUSIONS} rarer confusions, in persistent.csv")
    return lines


def _label_errors(
    clean: Predictions, panel: PanelPredictions, labels: np.ndarray, folder: Path
) -> Part:
    """Return the suspected label errors and the accuracy without them, or why they are missing."""
    try:
        suspected = label_errors(clean.images, panel, labels)
        without_suspected = without(clean, panel, suspected)
    except NotApplicableError as error:
        return Part({"label_errors": None, "label_errors_missing": str(error)}, ["", str(error)])

    count = len(suspected.rows)
    agree = f"labels that nearly all of {suspected.reference_models} reference models agree against"
    lines = ["", f"{agree}: {count} of {suspected.n}"]
    if count:
        lines += aligned(label_errors_rows(suspected)[: _LABEL_ERRORS + 1], text=(0, 1, 2))
    if count > _LABEL_ERRORS:
        lines.append(f"and {count - _LABEL_ERRORS} more, in {_LABEL_ERRORS_FILE}")

    path = str(folder / _LABEL_ERRORS_FILE)
    lines += [_line_without(without_suspected), f"written: {path}"]
    plain = {
        "label_errors": as_plain(suspected),
        "without_label_errors": as_plain(without_suspected),
        "label_errors_file": path,
    }
    return Part(plain, lines, {_LABEL_ERRORS_FILE: label_errors_csv(suspected, clean)})


def _line_without(scores: WithoutLabelErrors) -> str:
    """Return the accuracy without suspected label errors as a line for the terminal."""
    line = (
        f"without them: accuracy {scores.accuracy:.4f} of {scores.n} images "
        f"({scores.lost} of its errors are on them)"
    )
    if scores.reference_mean is None or scores.reference_std is None:
        return line
    return (
        f"{line}; reference models {scores.reference_mean:.4f} ± {scores.reference_std:.4f} "
        "on the same"
    )
