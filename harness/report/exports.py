"""Failures and scores as files: CSV for notebooks, Markdown for people; and the run as a run of MLflow."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

from harness.base.markdown import plain
from harness.measures.failures import LISTED, failure_changes, kinds_for
from harness.report.failures import confusions_rows
from harness.report.text import table
from harness.run.outcome import line_of
from harness.run.status import REPORTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from harness.inference import Predictions
    from harness.measures.accuracy import ClassificationReport
    from harness.measures.failures import Answer, FailureTable
    from harness.measures.worst_poses import PersistentFailures
    from harness.run.outcome import Outcome


def log_run(outcome: Outcome, folder: Path, *, experiment: str) -> None:
    """Log a run to an experiment, where MLflow's own settings say; raises whatever MLflow does.

    Each measurement is a metric by the id of its row, and the smallest margin of each family one under `margin/`. The
    verdict and the hashes of the inputs are tags under `stress.`. The reports in the folder are artifacts. If
    `MLFLOW_RUN_ID` names a run, such as that of the training, they are logged to it.
    """
    import mlflow

    line, candidate = line_of(outcome), outcome.models["candidate"]
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"gate {candidate['sha256'][:8]}"):
        mlflow.set_tags(
            {
                "stress.verdict": outcome.verdict,
                "stress.headline": outcome.headline,
                "stress.profile": outcome.profile,
                "stress.candidate": candidate["path"],
                "stress.candidate_sha256": candidate["sha256"],
                "stress.data_sha256": str(outcome.data["sha256"]),
                "stress.checks_sha256": outcome.checks_sha256,
            }
        )
        measured = {verdict.check.id: verdict.value for verdict in outcome.verdicts}
        margins = {f"margin/{family}": value for family, value in line.margins.items()}
        counts = {"checks_judged": line.judged, "checks_failing": len(line.failing)}
        metrics = {**measured, **margins, **counts}
        known = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
        mlflow.log_metrics(known)
        for name in REPORTS:
            if (folder / name).exists():
                mlflow.log_artifact(str(folder / name), artifact_path="stress")


_SHOWN = 20
"""Failures of a kind that the Markdown lists; the CSV has all."""


def failures_csv(tables: Sequence[FailureTable]) -> str:
    """Return a line for each failure of each table, with each class's probability, of many classes the true one's."""
    listed = _listed(tables[0].classes)
    titles = ("kind", "seen", "image", "true", "predicted", "confidence", *(f"P({name})" for name in listed))
    return csv_text(
        titles,
        (
            (one.kind, one.seen, row.index, row.true, *_said(row), *_probabilities(row, tables[0].classes))
            for one in tables
            for row in one.rows
        ),
    )


def changes_csv(predictions: Predictions, other: Predictions) -> str:
    """Return a line for each new, fixed and shared failure of each kind, with the predictions of both models.

    Probabilities are as in `failures_csv`.
    """
    classes = predictions.classes
    titles = ["kind", "change", "image", "true", "predicted", "confidence", "predicted before", "confidence before"]
    titles += [f"{before}P({name})" for before in ("", "before ") for name in _listed(classes)]
    rows = []
    for kind in kinds_for(predictions):
        for change, found in failure_changes(predictions, other, kind).items():
            for both in found:
                pair = both.candidate, both.other
                said = [cell for answer in pair for cell in _said(answer)]
                said += [share for answer in pair for share in _probabilities(answer, classes)]
                rows.append((kind.name, change, both.candidate.index, both.candidate.true, *said))
    return csv_text(titles, rows)


def persistent_csv(found: PersistentFailures) -> str:
    """Return a line for each image that is wrong at most poses."""
    rows = ((row.index, row.true, row.taken_for, row.wrong_at, found.poses) for row in found.rows)
    return csv_text(("image", "true", "predicted", "wrong at", "poses"), rows)


def scores_csv(report: ClassificationReport) -> str:
    """Return a line for each class and average; an undefined score is empty."""
    return csv_text(("class", "precision", "recall", "f1", "support"), _scores(report, 4, ""))


def scores_rows(report: ClassificationReport) -> list[list[str]]:
    """Return titles and rows of the scores by class and their averages; an undefined score is a dash."""
    return [["", "precision", "recall", "F1", "support"], *_scores(report, 3, "–")]


def _scores(report: ClassificationReport, digits: int, undefined: str) -> list[list[str]]:
    rows = []
    for each in (*report.classes, report.macro, report.weighted):
        scores = (each.precision, each.recall, each.f1)
        shown = [undefined if score is None else f"{score:.{digits}f}" for score in scores]
        rows.append([each.name, *shown, str(each.support)])
    return rows


def failures_markdown(
    title: str, report: ClassificationReport, tables: Sequence[FailureTable], persistent: PersistentFailures
) -> str:
    """Return all that `evaluate --failures` finds: scores, the most confident failures by kind, those that persist."""
    lines = [f"# {plain(title)}", "", *table(scores_rows(report)), ""]
    for name, classes in (("images of", report.absent), ("predictions of", report.never_predicted)):
        lines += [f"No {name} {plain(', '.join(classes))}.", ""] if classes else []
    for one in tables:
        shown = f", the {_SHOWN} most confident" if len(one.rows) > _SHOWN else ""
        lines += [f"## {plain(f'{one.kind}, {one.seen}')}: {len(one.rows)} of {one.n} images{shown}", ""]
        lines += [f"No image is of {plain(', '.join(one.absent))}.", ""] if one.absent else []
        rows = [
            (str(row.index), row.true, row.predicted, _percent(row.confidence), _others(row, one.classes))
            for row in one.rows[:_SHOWN]
        ]
        lines += [*table([("image", "true", "predicted as", "confidence", "then"), *rows]), ""] if rows else []
    lines += [f"## Wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images", ""]
    groups = [[str(cell) for cell in row] for row in confusions_rows(persistent.by_confusion())]
    lines += [*table([["true → predicted as", "images", "their numbers"], *groups]), ""] if groups else []
    return "\n".join(lines)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _others(row: Answer, classes: Sequence[str]) -> str:
    """Return the two classes that come after the answer, with their probabilities."""
    shares = row.shares(classes).items()
    ranked = sorted(((share, name) for name, share in shares if name != row.predicted), reverse=True)
    return ", ".join(f"{name} {share:.1%}" for share, name in ranked[:2])


def _said(answer: Answer) -> tuple[str, str]:
    return answer.predicted, "" if answer.confidence is None else f"{answer.confidence:.4f}"


def _listed(classes: Sequence[str]) -> Sequence[str]:
    return classes if len(classes) <= LISTED else ("true",)


def _probabilities(answer: Answer, classes: Sequence[str]) -> list[str]:
    """Return the probabilities of the listed classes, or of the true one; what is not known is left empty."""
    shares = answer.shares(classes)
    listed = classes if len(classes) <= LISTED else (answer.true,)
    return [f"{shares[name]:.4f}" if name in shares else "" for name in listed]


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as the content of a CSV file."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerows(map(_cell, row) for row in (titles, *rows))
    return content.getvalue()


def _cell(value: object) -> object:
    """Return a cell; a text that a spreadsheet would run as a formula has an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
