"""The command that says how good one model is, and where it fails: evaluate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, printable
from harness.cli.models import add_model_options, settings_of
from harness.cli.status import OK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    import numpy as np

    from harness.inference import Classifier, Predictions
    from harness.measures.classification import ClassificationReport
    from harness.measures.failures import FailureKind, FailureTable
    from harness.measures.panel.predictions import PanelPredictions
    from harness.measures.persistence import PersistentFailures

_CONFUSIONS = 12
"""Confusions of persistent failures that the terminal shows."""


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "evaluate",
        _evaluate,
        "Print a checkpoint's accuracy on the test images, clean and over the trained range (±10°, ±2 px); precision "
        "and recall by class; which images it fails on, by kind of failure, as tables; and which labels are suspect.",
        "evaluate runs/new.safetensors --failures",
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    add_model_options(command)
    command.add_argument("--poses", action="store_true", help="also search the 9x5x5 grid of poses (minutes)")
    command.add_argument("--classes", action="store_true", help="also print precision, recall and F1 of each class")
    command.add_argument(
        "--failures",
        action="store_true",
        help="also count failures by kind, at rest and moved, name those that persist, and write every one with the "
        "probability of each class, of more than 100 of the true one, into --output, as CSV and Markdown",
    )
    command.add_argument(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("A", "B"),
        help="with --failures: these two classes taken for each other, as one more kind; may be given several times",
    )
    command.add_argument(
        "--pose",
        nargs=3,
        type=float,
        action="append",
        default=[],
        metavar=("DEGREES", "DX", "DY"),
        help="with --failures: list failures in this pose, too; may be given several times",
    )
    command.add_argument(
        "--label-errors",
        action="store_true",
        help="also list images whose labels nearly all reference models agree against, the most suspect "
        "first, into --output, as CSV, with what the checkpoint comes to without them",
    )
    command.add_argument(
        "--knowledge",
        type=Path,
        metavar="FILE",
        help="what a panel of reference models knows, as calibrate leaves it: it says whose "
        "errors the failures are, and which labels are suspect (default: the file that stress_tests/checks.toml names, "
        "if it is about these images)",
    )
    command.add_argument(
        "--output",
        type=Path,
        default=Path("reports/failures"),
        metavar="DIR",
        help="the folder for the tables (default: reports/failures)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _evaluate(options: argparse.Namespace) -> int:
    from harness.cli.knowing import chosen_panel_predictions, label_errors_of
    from harness.data import stratified_sample
    from harness.measures import accuracy, confident_errors
    from harness.measures.classification import classification_report
    from harness.perturb import IDENTITY, augmentation_range_corners, augmentation_range_poses
    from harness.report.exports import scores_rows
    from harness.report.text import aligned

    if (options.pair or options.pose) and not options.failures:
        raise InputError("--pair and --pose say which failures to list; give --failures, too")
    for pose in options.pose:
        if not all(map(math.isfinite, pose)):
            raise InputError(
                f"--pose {' '.join(f'{each:g}' for each in pose)}: expected finite numbers: degrees, and pixels to the "
                "right and down"
            )
    everything = settings_of(options).all_images()
    images = everything if options.samples is None else stratified_sample(everything, options.samples)
    model = settings_of(options).open(options.checkpoint, images)
    classifier = model.classifier
    clean = classifier.predict(images)
    panel_predictions = (
        chosen_panel_predictions(options.panel_predictions, everything, model)
        if options.failures or options.label_errors
        else None
    )
    results: dict[str, Any] = {
        "clean_accuracy": accuracy(clean).value,
        "confident_errors": confident_errors(clean, above=0.9).value,
    }
    poses = (
        augmentation_range_poses()
        if options.poses
        else (IDENTITY, *augmentation_range_corners())
        if options.failures
        else ()
    )
    kinds = _kinds(options, clean, panel_predictions) if options.failures else ()
    posed = _posed(classifier, clean, poses, kinds)
    if options.poses:
        correct = posed.predicted == clean.labels[:, None]
        results["mean_pose_accuracy"] = float(correct.mean())
        results["robust_accuracy"] = float(correct.all(axis=1).mean())
    lines = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in results.items()]
    report = classification_report(clean)
    if options.classes:
        results["classes"] = report.as_json()
        lines += ["", *aligned(scores_rows(report))]
    if options.failures:
        found, said = _failures(options, classifier, clean, kinds, posed, report=report)
        results.update(found)
        lines += ["", *said]
    if options.label_errors:
        if panel_predictions is None:
            raise InputError(
                "--label-errors: what reference models know of these images was not found; name the file with "
                "--knowledge, which `stress-harness calibrate` leaves beside the panel"
            )
        found, said = label_errors_of(clean, panel_predictions, everything.labels.numpy(), options.output)
        results.update(found)
        lines += ["", *said]
    print(json.dumps(results) if options.json else "\n".join(map(printable, lines)))
    return OK


def _kinds(
    options: argparse.Namespace, clean: Predictions, panel_predictions: PanelPredictions | None
) -> tuple[FailureKind, ...]:
    from harness.measures.failures import confusion, kinds_for
    from harness.measures.panel.label_errors import owners

    owned = None if panel_predictions is None else owners(clean, panel_predictions)
    return *kinds_for(clean, owned), *(confusion(*pair) for pair in options.pair)


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
    options: argparse.Namespace,
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

    moved = (classifier.predict(clean.images, Pose(*pose), keep=False) for pose in options.pose)
    tables = [failure_table(each, kind) for each in chain([clean], moved) for kind in kinds]
    persistent = persistent_failures(clean.images, posed.predicted)
    written = _write(options, report, tables, persistent)
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
    if not options.json:
        return {}, lines
    found = {"failures": [table.as_json() for table in tables], "persistent": persistent.as_json(), "files": written}
    return found, lines


def _write(
    options: argparse.Namespace,
    report: ClassificationReport,
    tables: Sequence[FailureTable],
    persistent: PersistentFailures,
) -> list[str]:
    from harness.base import write_atomically
    from harness.report.exports import failures_csv, failures_markdown, persistent_csv, scores_csv

    title = f"Failures of {options.checkpoint}"
    contents = {
        "failures.csv": failures_csv(tables),
        "persistent.csv": persistent_csv(persistent),
        "classes.csv": scores_csv(report),
        "failures.md": failures_markdown(title, report, tables, persistent),
    }
    for name, content in contents.items():
        write_atomically(options.output / name, content.encode())
    return [str(options.output / name) for name in contents]
