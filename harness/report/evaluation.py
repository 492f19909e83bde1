"""Evaluation of one checkpoint as lines of the terminal, as JSON and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.outputs import Kind, table_kind
from harness.base.records import as_plain
from harness.report.exports import failures_csv, failures_markdown, persistent_csv, scores_csv, scores_rows
from harness.report.failures import confusions_rows
from harness.report.label_errors import label_errors_csv, label_errors_rows, without_in_words
from harness.report.tables import aligned

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.evaluation import Evaluation, FoundFailures

_CONFUSIONS, _LABEL_ERRORS = 12, 20
"""Confusions of persistent failures, and suspected label errors, that the terminal shows; the files have all."""
_LABEL_ERRORS_FILE = "label_errors.csv"
_OF_FAILURES = {
    "failures.csv": table_kind("a table of failures", "kind,seen,image"),
    "persistent.csv": table_kind("a table of persistent failures", "image,true,predicted"),
    "classes.csv": table_kind("a table of classes", "class,precision,recall"),
    "failures.md": Kind("a list of failures", rb"# Failures of "),
}
_OF_LABELS = table_kind("a table of suspected label errors", "image,label,reference answer")
FILES = {**_OF_FAILURES, _LABEL_ERRORS_FILE: _OF_LABELS}
"""The kind of each file that an evaluation may leave, by its name."""


def evaluation_files(done: Evaluation) -> dict[str, bytes]:
    """Return the contents of the files of an evaluation by their names: tables of failures and labels."""
    texts: dict[str, str] = {}
    if done.failures:
        tables, persistent = done.failures.tables, done.failures.persistent
        listed = failures_markdown(f"Failures of {done.checkpoint}", done.report, tables, persistent)
        contents = failures_csv(tables), persistent_csv(persistent), scores_csv(done.report), listed
        texts = dict(zip(_OF_FAILURES, contents, strict=True))
    if done.label_errors and done.label_errors.found:
        texts[_LABEL_ERRORS_FILE] = label_errors_csv(done.label_errors.found, done.clean)
    return {name: text.encode() for name, text in texts.items()}


def evaluation_json(done: Evaluation, folder: Path, *, classes: bool) -> dict[str, Any]:
    """Return an evaluation in plain types; `classes` asks for the scores of each class."""
    said: dict[str, Any] = dict(done.numbers)
    if classes:
        said["classes"] = done.report.as_json()
    if done.failures:
        said["failures"] = [table.as_json() for table in done.failures.tables]
        said["persistent"] = done.failures.persistent.as_json()
        said["files"] = [str(folder / name) for name in _OF_FAILURES]
    if done.label_errors:
        said["label_errors"] = done.label_errors.found and done.label_errors.found.as_json()
        if done.label_errors.found:
            said["without_label_errors"] = as_plain(done.label_errors.rest)
            said["label_errors_file"] = str(folder / _LABEL_ERRORS_FILE)
        else:
            said["label_errors_missing"] = done.label_errors.missing
    return said


def evaluation_lines(done: Evaluation, folder: Path, *, classes: bool) -> list[str]:
    """Return an evaluation as lines of the terminal; `classes` asks for the scores of each class."""
    lines = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in done.numbers.items()]
    if done.confident_errors is None:
        lines.append("confident errors: not applicable, the predictor returns labels only")
    if classes:
        lines += ["", *aligned(scores_rows(done.report))]
    if done.failures:
        written = ", ".join(str(folder / name) for name in _OF_FAILURES)
        lines += ["", *_failures(done.failures, done.report.n), f"written: {written}"]
    if done.label_errors is None:
        return lines
    found, rest = done.label_errors.found, done.label_errors.rest
    if found is None or rest is None:
        return [*lines, "", done.label_errors.missing]
    count, models = len(found.rows), found.reference_models
    lines += ["", f"labels that nearly all of {models} reference models agree against: {count} of {found.n}"]
    if count:
        shown = label_errors_rows(found)[: _LABEL_ERRORS + 1]
        lines += aligned([list(map(str, row)) for row in shown], text=(0, 1, 2))
    if count > _LABEL_ERRORS:
        lines.append(f"and {count - _LABEL_ERRORS} more, in {_LABEL_ERRORS_FILE}")
    return [*lines, without_in_words(rest), f"written: {folder / _LABEL_ERRORS_FILE}"]


def _failures(found: FoundFailures, images: int) -> list[str]:
    kinds, persistent = len(found.kinds), found.persistent
    titles = [f"failures of {images} images", *(each.seen for each in found.tables[::kinds])]
    rows = [
        [kind.name, *(str(len(each.rows)) for each in found.tables[at::kinds]), f"{failures / found.poses:.1f}"]
        for at, (kind, failures) in enumerate(zip(found.kinds, found.posed, strict=True))
    ]
    lines = aligned([[*titles, f"mean of {found.poses} poses"], *rows])
    lines += ["", f"wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images"]
    groups = confusions_rows(persistent.by_confusion())
    if groups:
        lines += aligned([[str(cell) for cell in row] for row in groups[:_CONFUSIONS]], text=(0, 2))
    if len(groups) > _CONFUSIONS:
        lines.append(f"and {len(groups) - _CONFUSIONS} rarer confusions, in persistent.csv")
    return lines
