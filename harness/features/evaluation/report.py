"""Evaluation of one checkpoint, and poses that break it, as lines of the terminal, as JSON and as files."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.base.outputs import Kind, table_kind
from harness.base.records import as_plain
from harness.measures import breaking_severity
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
from harness.report.figures import as_png
from harness.report.page import aligned
from harness.report.pictures import answered, marked, strip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.features.evaluation.evaluating import BrokenImage, Evaluation, FoundFailures
    from harness.inference.search import Breaking

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
        pose = each and {name: getattr(each.pose, name) for name in ("degrees", "dx", "dy")}
        said[path.name] = each and pose and {**pose, "prediction": answered(each.answer)}
    return said


def broken_image_lines(done: BrokenImage) -> list[str]:
    """Return the poses that break an image as lines of the terminal."""
    clean = done.clean
    if not done.by:
        wrong = f"image {done.number} ({clean.true}) is predicted as {clean.predicted}"
        return [f"{wrong} without any change; there is nothing to break"]
    lines = [f"image {done.number}: {clean.true}{f', {clean.sure} confidence' if clean.sure else ''}"]
    for path, each in done.by:
        held = f"correct up to the limit of {path.limit}"
        lines.append(f"  {path.name}: {f'{each.pose.in_words()}: {answered(each.answer)}' if each else held}")
    return lines


def survival_json(curves: Sequence[Breaking]) -> dict[str, Any]:
    """Return the survival along each path in plain types, by its name."""
    return {
        curve.path.name: {
            "unit": curve.path.unit,
            "median": breaking_severity(curve, share_broken=0.5).value,
            "decile": breaking_severity(curve, share_broken=0.1).value,
            "held_to_the_limit": float((curve.severity == float("inf")).mean()),
            "survival": {f"{at:g}": float(share) for at, share in zip(*curve.survival(), strict=True)},
        }
        for curve in curves
    }


def survival_lines(images: int, curves: Sequence[Breaking]) -> list[str]:
    """Return the survival along each path as lines of the terminal."""
    lines = [f"{images} images; shares of those with a correct clean prediction"]
    for curve in curves:
        decile, median = (curve.path.label(curve.quantile(share)) for share in (0.1, 0.5))
        held = f"{(curve.severity == float('inf')).mean():.0%} hold up to the limit"
        lines.append(f"  {curve.path.name}: one in ten fails by {decile}, half by {median}, {held}")
    return lines


def evaluation_files(done: Evaluation) -> dict[str, bytes]:
    """Return the contents of the files of an evaluation by their names: tables of failures and labels."""
    texts: dict[str, str] = {}
    if done.failures:
        tables, persistent = done.failures.tables, done.failures.persistent
        listed = failures_markdown(f"Failures of {done.checkpoint}", done.report, tables, persistent)
        contents = failures_csv(tables), persistent_csv(persistent), scores_csv(done.report), listed
        texts = dict(zip(_OF_FAILURES, contents, strict=True))
    if isinstance(done.label_errors, tuple):
        texts[_LABEL_ERRORS_FILE] = label_errors_csv(done.label_errors[0], done.clean)
    return {name: text.encode() for name, text in texts.items()}


def evaluation_json(done: Evaluation, folder: Path, *, classes: bool) -> dict[str, Any]:
    """Return an evaluation in plain types; `classes` asks for the scores of each class."""
    said: dict[str, Any] = {**done.numbers, **({"classes": asdict(done.report)} if classes else {})}
    if done.failures:
        said["failures"] = [asdict(table) for table in done.failures.tables]
        said["persistent"] = asdict(done.failures.persistent)
        said["files"] = [str(folder / name) for name in _OF_FAILURES]
    if isinstance(done.label_errors, tuple):
        found, rest = done.label_errors
        said |= {"label_errors": as_plain(found), "without_label_errors": as_plain(rest)}
        said["label_errors_file"] = str(folder / _LABEL_ERRORS_FILE)
    elif done.label_errors is not None:
        said |= {"label_errors": None, "label_errors_missing": done.label_errors}
    return said


def evaluation_lines(done: Evaluation, folder: Path, *, classes: bool) -> list[str]:
    """Return an evaluation as lines of the terminal; `classes` asks for the scores of each class."""
    lines = [f"{name.replace('_', ' ')}: {value:.4g}" for name, value in done.numbers.items()]
    if "confident_errors" not in done.numbers:
        lines.append("confident errors: not applicable, the predictor returns labels only")
    if classes:
        lines += ["", *aligned(scores_rows(done.report))]
    if done.failures:
        written = ", ".join(str(folder / name) for name in _OF_FAILURES)
        lines += ["", *_failures(done.failures, done.report.n), f"written: {written}"]
    if not isinstance(done.label_errors, tuple):
        return lines if done.label_errors is None else [*lines, "", done.label_errors]
    found, rest = done.label_errors
    count, models = len(found.rows), found.reference_models
    lines += ["", f"labels that nearly all of {models} reference models agree against: {count} of {found.n}"]
    if count:
        lines += aligned(label_errors_rows(found)[: _LABEL_ERRORS + 1], text=(0, 1, 2))
    if count > _LABEL_ERRORS:
        lines.append(f"and {count - _LABEL_ERRORS} more, in {_LABEL_ERRORS_FILE}")
    said = f"without them: accuracy {rest.accuracy:.4f} of {rest.n} images ({rest.lost} of its errors are on them)"
    if rest.reference_mean is not None and rest.reference_std is not None:
        said += f"; reference models {rest.reference_mean:.4f} ± {rest.reference_std:.4f} on the same"
    return [*lines, said, f"written: {folder / _LABEL_ERRORS_FILE}"]


def _failures(found: FoundFailures, images: int) -> list[str]:
    kinds, persistent = len(found.kinds), found.persistent
    titles = [f"failures of {images} images", *(each.seen for each in found.tables[::kinds])]
    rows = [
        [kind.name, *(len(each.rows) for each in found.tables[at::kinds]), f"{failures / found.poses:.1f}"]
        for at, (kind, failures) in enumerate(zip(found.kinds, found.posed, strict=True))
    ]
    lines = aligned([[*titles, f"mean of {found.poses} poses"], *rows])
    lines += ["", f"wrong at most of {persistent.poses} poses: {len(persistent.rows)} of {persistent.n} images"]
    if groups := confusions_rows(persistent):
        lines += aligned(groups[:_CONFUSIONS], text=(0, 2))
    if len(groups) > _CONFUSIONS:
        lines.append(f"and {len(groups) - _CONFUSIONS} rarer confusions, in persistent.csv")
    return lines
