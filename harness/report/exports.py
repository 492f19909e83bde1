"""Failures and scores as files: CSV for spreadsheets and notebooks, Markdown for people."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from harness.base.markdown import plain
from harness.measures.failures import LISTED
from harness.report.failures import confusions_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.measures.classification import ClassificationReport
    from harness.measures.failures import Answer, FailureChanges, FailureTable
    from harness.measures.persistence import PersistentFailures

_SHOWN = 20
"""Failures of a kind that the Markdown lists; the CSV has all."""


def failures_csv(tables: Sequence[FailureTable]) -> str:
    """Return a line for each failure of each table, with each class's probability, of many classes the true one's."""
    classes = tables[0].classes
    return csv_text(
        ("kind", "seen", "image", "true", "predicted", "confidence", *_probability_titles(classes)),
        (
            (table.kind, table.seen, row.index, row.true, *_said(row), *_probabilities(row, classes))
            for table in tables
            for row in table.rows
        ),
    )


def changes_csv(changes: Sequence[FailureChanges]) -> str:
    """Return a line for each new, fixed and shared failure of each kind, with the predictions of both models.

    Probabilities are as in `failures_csv`.
    """
    classes = changes[0].classes
    return csv_text(
        (
            *("kind", "change", "image", "true", "predicted", "confidence", "predicted before", "confidence before"),
            *_probability_titles(classes),
            *_probability_titles(classes, "before "),
        ),
        (
            (
                *(
                    each.kind,
                    change,
                    both.candidate.index,
                    both.candidate.true,
                    *_said(both.candidate),
                    *_said(both.other),
                ),
                *(*_probabilities(both.candidate, classes), *_probabilities(both.other, classes)),
            )
            for each in changes
            for change in ("new", "fixed", "shared")
            for both in getattr(each, change)
        ),
    )


def persistent_csv(found: PersistentFailures) -> str:
    """Return a line for each image that is wrong at most poses."""
    rows = ((row.index, row.true, row.taken_for, row.wrong_at, found.poses) for row in found.rows)
    return csv_text(("image", "true", "predicted", "wrong at", "poses"), rows)


def scores_csv(report: ClassificationReport) -> str:
    """Return a line for each class and average; an undefined score is empty."""
    return csv_text(
        ("class", "precision", "recall", "f1", "support"),
        (
            (each.name, *("" if score is None else f"{score:.4f}" for score in _scores(each)), each.support)
            for each in (*report.classes, report.macro, report.weighted)
        ),
    )


def scores_rows(report: ClassificationReport) -> list[list[str]]:
    """Return titles and rows of the scores by class and their averages; an undefined score is a dash."""
    rows = [
        [each.name, *("–" if score is None else f"{score:.3f}" for score in _scores(each)), str(each.support)]
        for each in (*report.classes, report.macro, report.weighted)
    ]
    return [["", "precision", "recall", "F1", "support"], *rows]


def failures_markdown(
    title: str, report: ClassificationReport, tables: Sequence[FailureTable], persistent: PersistentFailures
) -> str:
    """Return all that `evaluate --failures` finds: scores, the most confident failures by kind, those that persist."""
    lines = [f"# {plain(title)}", "", *_markdown(scores_rows(report))]
    for name, classes in (("images of", report.absent), ("predictions of", report.never_predicted)):
        lines += [f"No {name} {plain(', '.join(classes))}.", ""] if classes else []
    for table in tables:
        shown = f", the {_SHOWN} most confident" if len(table.rows) > _SHOWN else ""
        lines += [f"## {plain(f'{table.kind}, {table.seen}')}: {len(table.rows)} of {table.n} images{shown}", ""]
        lines += [f"No image is of {plain(', '.join(table.absent))}.", ""] if table.absent else []
        if table.rows:
            rows = [
                [
                    str(row.index),
                    row.true,
                    row.predicted,
                    "–" if row.confidence is None else f"{row.confidence:.1%}",
                    _others(row, table.classes),
                ]
                for row in table.rows[:_SHOWN]
            ]
            lines += _markdown([["image", "true", "predicted as", "confidence", "then"], *rows])
    lines += [f"## Wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images", ""]
    groups = [[str(cell) for cell in row] for row in confusions_rows(persistent.by_confusion())]
    lines += _markdown([["true → predicted as", "images", "their numbers"], *groups]) if groups else []
    return "\n".join(lines)


def _others(row: Answer, classes: Sequence[str]) -> str:
    """Return the two classes that come after the answer, with their probabilities."""
    shares = row.shares(classes).items()
    ranked = sorted(((share, name) for name, share in shares if name != row.predicted), reverse=True)
    return ", ".join(f"{name} {share:.1%}" for share, name in ranked[:2])


def _scores(each: object) -> tuple[float | None, ...]:
    return tuple(getattr(each, name) for name in ("precision", "recall", "f1"))


def _said(answer: Answer) -> tuple[str, str]:
    return answer.predicted, "" if answer.confidence is None else f"{answer.confidence:.4f}"


def _probabilities(answer: Answer, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the probabilities under the titles of `_probability_titles`; what is not known is left empty."""
    shares = answer.shares(classes)
    listed = classes if len(classes) <= LISTED else (answer.true,)
    return tuple(f"{shares[name]:.4f}" if name in shares else "" for name in listed)


def _probability_titles(classes: Sequence[str], prefix: str = "") -> tuple[str, ...]:
    return tuple(f"{prefix}P({name})" for name in (classes if len(classes) <= LISTED else ("true",)))


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as the content of a CSV file."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerows(map(_cell, row) for row in (titles, *rows))
    return content.getvalue()


def _cell(value: object) -> object:
    """Return a cell; a text that a spreadsheet would run as a formula has an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table, its first row the titles, and an empty line after it."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(plain, cells))} |"

    return [line(rows[0]), line("---" for _ in rows[0]), *map(line, rows[1:]), ""]
