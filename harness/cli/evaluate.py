"""The command `evaluate`: a checkpoint's accuracy, its failures, and suspected label errors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.base.errors import InputError, printable
from harness.cli.options import FILE, OK, Command, chosen_model_settings, json_option, model_settings, setting_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from harness.inference import Classifier, Predictions
    from harness.measures.classification import ClassificationReport
    from harness.measures.failures import FailureKind, FailureTable
    from harness.measures.panel.predictions import PanelPredictions
    from harness.measures.persistence import PersistentFailures

_CONFUSIONS = 12
"""Confusions of persistent failures that the terminal shows."""


@dataclass(frozen=True)
class _Evaluation:
    """What is asked of a checkpoint; `pairs` of classes are kinds of failure, `poses` are degrees, dx and dy."""

    checkpoint: Path
    output: Path
    pairs: tuple[tuple[str, str], ...]
    poses: tuple[tuple[float, float, float], ...]
    as_json: bool


@click.command(
    "evaluate",
    cls=Command,
    example="evaluate runs/new.safetensors --failures",
    help="Print a checkpoint's accuracy on the test images, clean and over the augmentation range (±10°, ±2 px); "
    "precision and recall by class; its failures by kind, as tables; and suspected label errors.",
)
@click.argument("checkpoint", type=FILE)
@setting_options(*model_settings())
@click.option("--poses", "on_grid", is_flag=True, help="Also search the 9x5x5 grid of poses (minutes).")
@click.option("--classes", is_flag=True, help="Also print precision, recall and F1 of each class.")
@click.option(
    "--failures",
    is_flag=True,
    help="Also count failures by kind, clean and posed, name those that persist, and write every one with the "
    "probability of each class, of more than 100 of the true one, into --output, as CSV and Markdown.",
)
@click.option(
    "--pair",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="A B",
    help="With --failures: confusions of these two classes, as one more kind; may be given several times (default: "
    "none).",
)
@click.option(
    "--pose",
    "poses",
    nargs=3,
    type=float,
    multiple=True,
    metavar="DEGREES DX DY",
    help="With --failures: list failures in this pose, too; may be given several times (default: none).",
)
@click.option(
    "--label-errors",
    is_flag=True,
    help="Also list suspected label errors, which nearly all reference models agree against, the most suspect first, "
    "into --output, as CSV, with the checkpoint's accuracy without them.",
)
@click.option(
    "--panel-predictions",
    "predictions_path",
    type=FILE,
    metavar="FILE",
    help="The predictions of a reference panel, as calibrate leaves them: they say whose errors the failures are, and "
    "which labels are suspect (default: the file that stress_tests/checks.toml names, if it is about these images).",
)
@click.option(
    "--output",
    type=FILE,
    default=Path("reports/failures"),
    metavar="DIR",
    help="The folder for the tables (default: reports/failures).",
)
@json_option
def evaluate_command(
    checkpoint: Path,
    pairs: tuple[tuple[str, str], ...],
    poses: tuple[tuple[float, float, float], ...],
    predictions_path: Path | None,
    output: Path,
    *,
    on_grid: bool,
    classes: bool,
    failures: bool,
    label_errors: bool,
    as_json: bool,
) -> int:
    """Evaluate a checkpoint."""
    from harness.cli.label_errors import chosen_panel_predictions, label_errors_of
    from harness.data import stratified_sample
    from harness.measures import accuracy, confident_errors
    from harness.measures.classification import classification_report
    from harness.perturb import IDENTITY, augmentation_range_corners, augmentation_range_poses
    from harness.report.exports import scores_rows
    from harness.report.text import aligned

    if (pairs or poses) and not failures:
        raise InputError("--pair and --pose say which failures to list; give --failures, too")
    for pose in poses:
        if not all(map(math.isfinite, pose)):
            raise InputError(
                f"--pose {' '.join(f'{each:g}' for each in pose)}: expected finite numbers: degrees, and pixels to the "
                "right and down"
            )
    asked = _Evaluation(checkpoint, output, pairs, poses, as_json)
    settings = chosen_model_settings()
    everything = settings.all_images()
    images = everything if settings.samples is None else stratified_sample(everything, settings.samples)
    model = settings.open(checkpoint, images)
    classifier = model.classifier
    clean = classifier.predict(images)
    panel_predictions = None
    if failures or label_errors:
        panel_predictions = chosen_panel_predictions(predictions_path, everything, model)
    results: dict[str, Any] = {
        "clean_accuracy": accuracy(clean).value,
        "confident_errors": confident_errors(clean, above=0.9).value,
    }
    seen = augmentation_range_poses() if on_grid else (IDENTITY, *augmentation_range_corners()) if failures else ()
    kinds = _kinds(asked, clean, panel_predictions) if failures else ()
    posed = _posed(classifier, clean, seen, kinds)
    if on_grid:
        correct = posed.predicted == clean.labels[:, None]
        results["mean_pose_accuracy"] = float(correct.mean())
        results["robust_accuracy"] = float(correct.all(axis=1).mean())
    lines = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in results.items()]
    report = classification_report(clean)
    if classes:
        results["classes"] = report.as_json()
        lines += ["", *aligned(scores_rows(report))]
    if failures:
        found, said = _failures(asked, classifier, clean, kinds, posed, report=report)
        results.update(found)
        lines += ["", *said]
    if label_errors:
        if panel_predictions is None:
            raise InputError(
                "--label-errors: what reference models know of these images was not found; name the file with "
                "--panel-predictions, which `stress-harness calibrate` leaves beside the panel"
            )
        found, said = label_errors_of(clean, panel_predictions, everything.labels.numpy(), output)
        results.update(found)
        lines += ["", *said]
    print(json.dumps(results) if as_json else "\n".join(map(printable, lines)))
    return OK


def _kinds(
    asked: _Evaluation, clean: Predictions, panel_predictions: PanelPredictions | None
) -> tuple[FailureKind, ...]:
    from harness.measures.failures import confusion, kinds_for
    from harness.measures.panel.label_errors import owners

    owned = None if panel_predictions is None else owners(clean, panel_predictions)
    return *kinds_for(clean, owned), *(confusion(*pair) for pair in asked.pairs)


@dataclass(frozen=True, eq=False)
class _Posed:
    """What is kept of a model's answers in P poses: `predicted`, (N, P) int32, and failures by kind, of those `moved`.

    `failures` counts those of each kind in all poses but that of rest, of which there are `moved`.
    """

    predicted: np.ndarray
    moved: int
    failures: tuple[int, ...]


def _posed(classifier: Classifier, clean: Predictions, poses: Sequence[Any], kinds: Sequence[FailureKind]) -> _Posed:
    """Predict in each pose, one after the other: the answers to 50,000 images of 1,000 classes are 200 MB."""
    import numpy as np

    from harness.base.progress import Progress
    from harness.perturb import IDENTITY

    predicted, failures = np.empty((len(clean.labels), len(poses)), dtype=np.int32), np.zeros(len(kinds), dtype=int)
    for at, pose in enumerate(Progress(poses, unit="pose", delay=2, disable=not poses)):
        seen = clean if pose == IDENTITY else classifier.predict(clean.images, pose, keep=False)
        predicted[:, at] = seen.predicted
        if pose != IDENTITY:
            failures += np.array([kind.among(seen).sum() for kind in kinds], dtype=int)
    return _Posed(predicted, sum(pose != IDENTITY for pose in poses), tuple(failures.tolist()))


def _failures(
    asked: _Evaluation,
    classifier: Classifier,
    clean: Predictions,
    kinds: Sequence[FailureKind],
    posed: _Posed,
    *,
    report: ClassificationReport,
) -> tuple[dict[str, Any], list[str]]:
    """Tabulate failures and write the files; return what JSON has of them, and lines for the terminal."""
    from harness.measures.failures import failure_table
    from harness.measures.persistence import persistent_failures
    from harness.perturb import Pose
    from harness.report.failures import confusions_rows
    from harness.report.text import aligned

    moved = (classifier.predict(clean.images, Pose(*pose), keep=False) for pose in asked.poses)
    tables = [failure_table(each, kind) for each in chain([clean], moved) for kind in kinds]
    persistent = persistent_failures(clean.images, posed.predicted)
    written = _write(asked, report, tables, persistent)
    titles = [f"failures of {report.n} images", *(each.seen for each in tables[:: len(kinds)])]
    rows = [
        [kind.name, *(str(len(each.rows)) for each in tables[at :: len(kinds)]), f"{failures / posed.moved:.1f}"]
        for at, (kind, failures) in enumerate(zip(kinds, posed.failures, strict=True))
    ]
    lines = aligned([[*titles, f"mean of {posed.moved} poses"], *rows])
    lines += ["", f"wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images"]
    groups = confusions_rows(persistent.by_confusion())
    if groups:
        lines += aligned([[str(cell) for cell in row] for row in groups[:_CONFUSIONS]], text=(0, 2))
    if len(groups) > _CONFUSIONS:
        lines.append(f"and {len(groups) - _CONFUSIONS} rarer confusions, in persistent.csv")
    lines.append(f"written: {', '.join(written)}")
    if not asked.as_json:
        return {}, lines
    found = {"failures": [table.as_json() for table in tables], "persistent": persistent.as_json(), "files": written}
    return found, lines


def _write(
    asked: _Evaluation,
    report: ClassificationReport,
    tables: Sequence[FailureTable],
    persistent: PersistentFailures,
) -> list[str]:
    from harness.base import write_atomically
    from harness.report.exports import failures_csv, failures_markdown, persistent_csv, scores_csv

    title = f"Failures of {asked.checkpoint}"
    contents = {
        "failures.csv": failures_csv(tables),
        "persistent.csv": persistent_csv(persistent),
        "classes.csv": scores_csv(report),
        "failures.md": failures_markdown(title, report, tables, persistent),
    }
    for name, content in contents.items():
        write_atomically(asked.output / name, content.encode())
    return [str(asked.output / name) for name in contents]
