"""Evaluation of one checkpoint, and poses that break it, as lines of the terminal, as JSON and as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.outputs import Kind, table_kind
from harness.base.records import as_plain
from harness.report.example_pictures import answered, as_png, marked, strip
from harness.report.exports import failures_csv, failures_markdown, persistent_csv, scores_csv, scores_rows
from harness.report.failures import confusions_rows
from harness.report.figures import as_png as figure_as_png
from harness.report.figures import survival_curves
from harness.report.label_errors import label_errors_csv, label_errors_rows, without_in_words
from harness.report.tables import aligned

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.breaking import BrokenImage, Survival
    from harness.run.evaluation import Evaluation, FoundFailures


def broken_image_png(done: BrokenImage) -> bytes:
    """Return a picture of the clean image and of each pose that breaks it, as PNG."""
    clean = done.clean
    tiles = [(done.pixels, f"image {done.number}", f"true: {clean.true}\n{marked(clean)}")]
    tiles += [(each.pixels, each.pose.in_words(), marked(each.answer)) for _, each in done.by if each]
    return as_png(strip(tiles))


def broken_image_json(done: BrokenImage) -> dict[str, Any]:
    """Return the poses that break an image in plain types; None for a path without one."""
    said: dict[str, Any] = {"image": done.number, "true": done.clean.true, "predicted": done.clean.predicted}
    for path, each in done.by:
        said[path.name] = each and {
            **{name: getattr(each.pose, name) for name in ("degrees", "dx", "dy")},
            "prediction": answered(each.answer),
        }
    return said


def broken_image_lines(done: BrokenImage) -> list[str]:
    """Return the poses that break an image as lines of the terminal."""
    clean = done.clean
    if not done.by:
        return [
            f"image {done.number} ({clean.true}) is predicted as {clean.predicted} without any change; "
            "there is nothing to break"
        ]
    sure = f", {clean.sure} confidence" if clean.sure else ""
    lines = [f"image {done.number}: {clean.true}{sure}"]
    for path, each in done.by:
        where = (
            f"{each.pose.in_words()}: {answered(each.answer)}" if each else f"correct up to the limit of {path.limit}"
        )
        lines.append(f"  {path.name}: {where}")
    return lines


def survival_png(done: Survival) -> bytes:
    """Return the survival curves as PNG."""
    return figure_as_png(survival_curves(done.curves))


def survival_lines(done: Survival) -> list[str]:
    """Return the survival along each path as lines of the terminal."""
    lines = [f"{done.images} images; shares of those with a correct clean prediction"]
    for curve in done.curves:
        decile, median = (curve.path.label(curve.quantile(share)) for share in (0.1, 0.5))
        held = done.paths[curve.path.name]["held_to_the_limit"]
        lines.append(
            f"  {curve.path.name}: one in ten fails by {decile}, half by {median}, {held:.0%} hold up to the limit"
        )
    return lines


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
