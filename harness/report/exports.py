"""Failures, scores and label errors as files: CSV for notebooks, Markdown for people."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from harness.base.markdown import plain, relative
from harness.measures.failures import LISTED, failure_changes, kinds_for
from harness.report.text import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.inference import Predictions
    from harness.measures.accuracy import ClassificationReport
    from harness.measures.failures import Answer, FailureTable
    from harness.measures.panel.label_errors import LabelErrors
    from harness.measures.worst_poses import PersistentFailures

_SHOWN, _NUMBERS = 20, 12
"""Failures of a kind that the Markdown lists, while the CSV has all, and images that a confusion
names.
"""


def failures_csv(tables: Sequence[FailureTable]) -> str:
    """Return a line for each failure of each table, with the probability of each class.

    Of many classes, it has that of the true one.
    """
    classes = tables[0].classes
    titles = (
        "kind",
        "seen",
        "image",
        "true",
        "predicted",
        "confidence",
        *_probability_titles(classes),
    )
    return csv_text(
        titles,
        (
            (one.kind, one.seen, row.index, row.true, *_said(row), *_probabilities(row, classes))
            for one in tables
            for row in one.rows
        ),
    )


def changes_csv(predictions: Predictions, other: Predictions) -> str:
    """Return a line for each new, fixed and shared failure of each kind.

    It has the predictions of both models. Probabilities are as in `failures_csv`.
    """
    classes = predictions.classes
    titles = [
        "kind",
        "change",
        "image",
        "true",
        "predicted",
        "confidence",
        "predicted before",
        "confidence before",
    ]
    titles += [
        f"{before}{title}" for before in ("", "before ") for title in _probability_titles(classes)
    ]
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


def confusions_rows(found: PersistentFailures) -> list[list[str]]:
    """Return a row for each confusion of persistent failures.

    Classes, count and the first images.
    """
    return [
        [f"{true} → {taken}", str(len(numbers)), some + (" …" if len(numbers) > _NUMBERS else "")]
        for true, taken, numbers in found.by_confusion()
        if (some := ", ".join(map(str, numbers[:_NUMBERS])))
    ]


def scores_csv(report: ClassificationReport) -> str:
    """Return a line for each class and average; an undefined score is empty."""
    return csv_text(("class", "precision", "recall", "f1", "support"), _scores(report, 4, ""))


def scores_rows(report: ClassificationReport) -> list[list[str]]:
    """Return titles and rows of the scores by class and their averages.

    An undefined score is a dash.
    """
    return [["", "precision", "recall", "F1", "support"], *_scores(report, 3, "–")]


def _scores(report: ClassificationReport, digits: int, undefined: str) -> list[list[str]]:
    rows = []
    for each in (*report.classes, report.macro, report.weighted):
        scores = (each.precision, each.recall, each.f1)
        shown = [undefined if score is None else f"{score:.{digits}f}" for score in scores]
        rows.append([each.name, *shown, str(each.support)])
    return rows


def failures_markdown(
    title: str,
    report: ClassificationReport,
    tables: Sequence[FailureTable],
    persistent: PersistentFailures,
) -> str:
    """Return the list of `evaluate --failures`: scores, failures by kind, persistent failures.

    The most confident failures stand first.
    """
    blocks = [[f"# {plain(title)}"], table(scores_rows(report))]
    for name, classes in (("images of", report.absent), ("predictions of", report.never_predicted)):
        blocks.append([f"No {name} {plain(', '.join(classes))}."] if classes else [])
    for one in tables:
        shown = f", the {_SHOWN} most confident" if len(one.rows) > _SHOWN else ""
        blocks.append(
            [f"## {plain(f'{one.kind}, {one.seen}')}: {len(one.rows)} of {one.n} images{shown}"]
        )
        blocks.append([f"No image is of {plain(', '.join(one.absent))}."] if one.absent else [])
        rows = [("image", "true", "predicted as", "confidence", "then")]
        for row in one.rows[:_SHOWN]:
            others = {
                name: share
                for name, share in row.shares(one.classes).items()
                if name != row.predicted
            }
            then = sorted(((share, name) for name, share in others.items()), reverse=True)[:2]
            sure = "–" if row.confidence is None else f"{row.confidence:.1%}"
            said = ", ".join(f"{name} {share:.1%}" for share, name in then)
            rows.append((str(row.index), row.true, row.predicted, sure, said))
        blocks.append(table(rows) if one.rows else [])
    blocks.append(
        [
            f"## Wrong at most of {persistent.poses} poses: {len(persistent.rows)} of "
            f"{persistent.n} images"
        ]
    )
    if groups := confusions_rows(persistent):
        blocks.append(table([["true → predicted as", "images", "their numbers"], *groups]))
    return relative("\n\n".join("\n".join(block) for block in blocks if block) + "\n")


def _said(answer: Answer) -> tuple[str, str]:
    return answer.predicted, "" if answer.confidence is None else f"{answer.confidence:.4f}"


def _probability_titles(classes: Sequence[str]) -> list[str]:
    return [f"P({name})" for name in (classes if len(classes) <= LISTED else ("true",))]


def _probabilities(answer: Answer, classes: Sequence[str]) -> list[str]:
    """Return the probabilities of the listed classes, or of the true one.

    Unknown probabilities are left empty.
    """
    shares = answer.shares(classes)
    listed = classes if len(classes) <= LISTED else (answer.true,)
    return [f"{shares[name]:.4f}" if name in shares else "" for name in listed]


def label_errors_rows(found: LabelErrors) -> list[list[object]]:
    """Return titles and rows of the suspected label errors, the most suspect first."""
    rows: list[list[object]] = [
        ["image", "label", "reference models say", "confidence", "of the label", "against it"]
    ]
    for row in found.rows:
        shares = f"{row.probability:.1%}", f"{row.label_probability:.2%}"
        rows.append(
            [row.index, row.label, row.answer, *shares, f"{row.wrong} of {found.reference_models}"]
        )
    return rows


def label_errors_csv(found: LabelErrors, predictions: Predictions) -> str:
    """Return a line for each suspected label error.

    It has the predictions of the reference models and of the model.
    """
    at = np.searchsorted(predictions.images.positions.numpy(), found.indices)
    answers = [predictions.classes[label] for label in predictions.predicted[at]]
    titles = (
        "image",
        "label",
        "reference answer",
        "reference probability",
        "probability of the label",
        "suspicion",
    )
    rows = []
    for row, answer in zip(found.rows, answers, strict=True):
        shares = (
            f"{share:.6f}" for share in (row.probability, row.label_probability, row.suspicion)
        )
        rows.append(
            (row.index, row.label, row.answer, *shares, row.wrong, found.reference_models, answer)
        )
    return csv_text((*titles, "against it", "reference_models", "predicted"), rows)


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as the content of a CSV file."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerows(map(_cell, row) for row in (titles, *rows))
    return content.getvalue()


def _cell(value: object) -> object:
    """Return a cell.

    A text that a spreadsheet would run as a formula has an apostrophe in front.
    """
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        else value
    )
