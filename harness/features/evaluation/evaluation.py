"""Evaluation of one checkpoint: accuracy, failures and suspected label errors, as lines, as JSON and as files."""

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
    from harness.inference import Predictions
    from harness.run.settings import ModelSettings

CHECKS = Path("stress_tests/checks.toml")
_CONFUSIONS, _LABEL_ERRORS = 12, 20
"""Confusions of persistent failures, and suspected label errors, that the terminal shows; the files have all."""
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
    """A part of an evaluation: in plain types, as lines of the terminal, and as contents of files by their names."""

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
    """Evaluate a checkpoint; return the parts asked for, and notes on the panel's predictions.

    `on_grid` searches the poses of the augmentation range, 225 by default. `failures` asks for tables of failures.
    With them, `pairs` of classes are further kinds, and `poses` (degrees, dx, dy in pixels) are listed, too. Label
    errors are found by the file `panel_predictions`, by default the one that the checks file names. Files are for the
    `folder`. The `images_table` has the results of each image, clean and in these poses.
    Raises `InputError` for refused files, and where label errors need a missing panel.
    """
    if (pairs or (poses and not images_table)) and not failures:
        raise InputError("--pair and --pose say which failures to list; give --failures, too")
    if odd := next((pose for pose in poses if not all(map(math.isfinite, pose))), None):
        expected = "expected finite numbers: degrees, and pixels to the right and down"
        raise InputError(f"--pose {' '.join(f'{each:g}' for each in odd)}: {expected}")
    everything = settings.all_images()
    images = (
        everything if settings.samples is None else stratified_sample(everything, settings.samples)
    )
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
    no_corners = why_no_corners(images)
    on_clean_alone = failures and bool(no_corners) and not on_grid
    notes += [f"failures are of clean images alone: {no_corners}"] if on_clean_alone else []
    grid = _poses_of(images, on_grid=on_grid, failures=failures)
    predicted, posed = (
        np.empty((len(images), len(grid)), dtype=np.int32),
        np.zeros(len(kinds), dtype=int),
    )
    for at, pose in enumerate(Progress(grid, unit="pose", delay=2, disable=not grid)):
        seen = clean if pose == IDENTITY else classifier.predict(images, pose, keep=False)
        predicted[:, at] = seen.predicted
        if pose != IDENTITY:
            posed += np.array([kind.among(seen).sum() for kind in kinds], dtype=int)
    parts = [_numbers(clean, predicted if on_grid else None)]
    if per_class:
        report = classification_report(clean)
        parts.append(Part({"classes": asdict(report)}, ["", *aligned(scores_rows(report))]))
    views = [clean, *(classifier.predict(images, Pose(*pose), keep=False) for pose in poses)]
    parts += [_table_of(views, images_table)] if images_table else []
    if failures:
        moved = sum(pose != IDENTITY for pose in grid)
        persistent = persistent_failures(images, predicted)
        parts.append(
            _failures(checkpoint, views, kinds, persistent, posed=posed, moved=moved, folder=folder)
        )
    if find_label_errors and panel is not None:
        parts.append(_label_errors(clean, panel, everything.labels.numpy(), folder))
    return parts, notes


def _poses_of(images: LabelledImages, *, on_grid: bool, failures: bool) -> tuple[Pose, ...]:
    """Return the poses that are searched, or those in which failures are counted."""
    within = images.domain.augmentation
    if on_grid:
        return augmentation_range_poses(within)
    if not failures:
        return ()
    return (
        (IDENTITY,) if why_no_corners(images) else (IDENTITY, *augmentation_range_corners(within))
    )


def _table_of(views: Sequence[Predictions], path: Path) -> Part:
    written = f"{sum(len(view.labels) for view in views):,} rows written: {path}"
    return Part({"per_image": str(path)}, [written], {str(path): per_image(views, path)})


def _panel_predictions(
    named: Path | None, images: LabelledImages, sha256: str
) -> PanelPredictions | None:
    """Return the panel's predictions of all images of the split, without those of the model with this hash.

    None if no file is named. Raises `InputError` for a file that cannot be used.
    """
    checks = read_checks(CHECKS) if CHECKS.exists() and named is None else None
    path = checks.panel_predictions if checks else named
    if path is None or not (named or path.exists()):
        return None
    read = read_panel_predictions(path)
    if checks:
        checks.expect_panel_predictions(path, read.sha256)
    others = read.without(sha256)
    try:
        others.expect(images)
        others.clean(images)
    except InputError as error:
        raise PanelError(f"{path}: {error}") from None
    return others


def _numbers(clean: Predictions, on_grid: np.ndarray | None) -> Part:
    """Return accuracy and confident errors, with accuracy over the classes predicted `on_grid`, (N, P), if given."""
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
    posed: np.ndarray,
    moved: int,
    folder: Path,
) -> Part:
    """Return the failures of each kind in each view, the clean one first, and the persistent ones.

    `posed` counts those of each kind in the poses that are `moved`.
    """
    report = classification_report(views[0])
    tables = tuple(failure_table(each, kind) for each in views for kind in kinds)
    listed = failures_markdown(f"Failures of {checkpoint}", report, tables, persistent)
    contents = failures_csv(tables), persistent_csv(persistent), scores_csv(report), listed
    files = dict(zip(_OF_FAILURES, contents, strict=True))
    titles = [f"failures of {report.n} images", *(table.seen for table in tables[:: len(kinds)])]
    rows: list[list[object]] = []
    for at, kind in enumerate(kinds):
        posed_mean = [f"{posed[at] / moved:.1f}"] if moved else []
        rows.append(
            [kind.name, *(len(table.rows) for table in tables[at :: len(kinds)]), *posed_mean]
        )
    titles += [f"mean of {moved} poses"] if moved else []
    lines = ["", *aligned([titles, *rows]), ""]
    if moved:
        lines.append(
            f"wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images"
        )
    groups = confusions_rows(persistent) if moved else []
    if groups:
        lines += aligned(groups[:_CONFUSIONS], text=(0, 2))
    if len(groups) > _CONFUSIONS:
        lines.append(f"and {len(groups) - _CONFUSIONS} rarer confusions, in persistent.csv")
    written = [str(folder / name) for name in files]
    plain = {
        "failures": [asdict(table) for table in tables],
        "persistent": asdict(persistent),
        "files": written,
    }
    return Part(plain, [*lines, f"written: {', '.join(written)}"], files)


def _label_errors(
    clean: Predictions, panel: PanelPredictions, labels: np.ndarray, folder: Path
) -> Part:
    """Return the suspected label errors, and the accuracy without them, or the reason why they are missing."""
    try:
        found = label_errors(clean.images, panel, labels)
        rest = without(clean, panel, found)
    except NotApplicableError as error:
        return Part({"label_errors": None, "label_errors_missing": str(error)}, ["", str(error)])
    count, written = len(found.rows), str(folder / _LABEL_ERRORS_FILE)
    agree = f"labels that nearly all of {found.reference_models} reference models agree against"
    lines = ["", f"{agree}: {count} of {found.n}"]
    if count:
        lines += aligned(label_errors_rows(found)[: _LABEL_ERRORS + 1], text=(0, 1, 2))
    if count > _LABEL_ERRORS:
        lines.append(f"and {count - _LABEL_ERRORS} more, in {_LABEL_ERRORS_FILE}")
    said = f"without them: accuracy {rest.accuracy:.4f} of {rest.n} images ({rest.lost} of its errors are on them)"
    if rest.reference_mean is not None and rest.reference_std is not None:
        said += (
            f"; reference models {rest.reference_mean:.4f} ± {rest.reference_std:.4f} on the same"
        )
    plain = {
        "label_errors": as_plain(found),
        "without_label_errors": as_plain(rest),
        "label_errors_file": written,
    }
    return Part(
        plain,
        [*lines, said, f"written: {written}"],
        {_LABEL_ERRORS_FILE: label_errors_csv(found, clean)},
    )
