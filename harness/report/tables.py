"""Tables of the models side by side, for pages and as text, and what changed since the incumbent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from harness.checks.roles import INCUMBENT, role_title
from harness.measures import Unit
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.statistics import proportion_interval, related
from harness.perturb import IDENTITY
from harness.report.headline import conclusion
from harness.report.page import Section, aligned, paragraphs, render, table
from harness.report.wording import significantly_more
from harness.run.outcome import robust_verdict
from harness.run.overview import TELLING, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.measures.flips import Flips
    from harness.run.history import Line
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview

_share, _difference = Unit.SHARE.format, Unit.DIFFERENCE.format

_MOST_CHANGED = 10
"""Classes and pairs that the comparison with the incumbent names."""

SIGNS = {
    "pass": "✓ passes",
    "fail": "✗ fails",
    "error": "✗ error",
    "inconclusive": "? inconclusive",
    "informational": "informational",
    "not_applicable": "not applicable",
}
SIGNIFICANT, NOT_SIGNIFICANT = "▼", "▽"
LEGEND = f"{SIGNIFICANT} significantly worse, {NOT_SIGNIFICANT} worse, but not significant."


class Cell(NamedTuple):
    """A metric of one model: a share, or a count (int), what stands below it, and the images of a share."""

    value: float
    note: str = ""
    n: int = 0

    @property
    def said(self) -> str:
        """Return the value as text."""
        return f"{self.value:,}" if isinstance(self.value, int) else _share(self.value)


class Row(NamedTuple):
    """A metric of the models side by side, None where not measured.

    `title` and `about` are for a page, `line` for text. The mark is that of the first model, if it is worse than the
    compared one on as many images.
    """

    title: str
    about: str
    line: str
    cells: list[Cell | None]
    mark: str = ""


def metrics(overview: Overview, robust: Mapping[str, Rate] = {}) -> list[Row]:
    """Return the main metrics that some model has; `robust` is robust accuracy by role, on the images of its check."""
    known, reference = overview.models, overview.of_recipe
    at = known.index(reference) if reference else 0
    found = [next((robust[role] for role in model.roles if role in robust), None) for model in known]
    corners = "the corners ±10°, ±2 px"
    rows = []
    for title, about, line, rates in (
        ("Clean accuracy", "", "clean accuracy", [model.accuracy for model in known]),
        (
            "Accuracy rotated and translated",
            f"mean of {corners}",
            f"accuracy at {corners.replace('corners', 'corners of')}",
            [model.corners for model in known],
        ),
        ("Robust accuracy", "all 225 poses within ±10°, ±2 px", "robust accuracy (225 poses)", found),
    ):
        mine, theirs = rates[0], rates[at]
        mark = mark_of_rates(mine, theirs) if mine and theirs and mine.n == theirs.n else ""
        cells = [
            Cell(rate.value, f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n={rate.n:,}", rate.n) if rate else None
            for rate in rates
        ]
        rows.append(Row(title, about, line, cells, mark))
    notes = []
    for model in known:  # Without reference models, no error is unique.
        unique = next((f", {kind.count} unique" for kind in model.failures if kind.kind == UNIQUE_CONFIDENT), "")
        notes.append(f"of {overview.n:,}{unique}")
    sure = [model.confident_errors for model in known]
    counts = [None if count is None else Cell(count, note) for count, note in zip(sure, notes, strict=True)]
    own, beside = sure[0], sure[at]
    mark = "" if own is None or beside is None else mark_of_counts(own, beside)
    rows.append(Row("Errors at high confidence", "over 90%", "errors above 90% confidence", counts, mark))
    gaps = [None if (error := model.calibration_error) is None else Cell(error) for model in known]
    rows.append(Row("Expected calibration error", "15 bins of confidence", "expected calibration error", gaps))
    return [row for row in rows if any(row.cells)]


def models(overview: Overview, robust: Mapping[str, Rate] = {}) -> Markup:
    """Return the main metrics of the models side by side, with a mark on values worse than the compared model's."""
    rows = []
    for title, about, _, cells, mark in metrics(overview, robust):
        shown = [(marked(cell.said, "" if at else mark), cell.note) if cell else None for at, cell in enumerate(cells)]
        rows.append((title, about, shown))
    titles = [" = ".join(map(role_title, model.roles)) for model in overview.models]
    legend = " ".join(filter(None, (LEGEND if overview.of_recipe else "", left_out(overview))))
    return render("models", titles=titles, rows=rows) + paragraphs(legend, kind="soft")


def side_by_side(outcome: Outcome) -> list[list[str]]:
    """Return titles, one for each model, and a row for each metric that was measured; empty without an overview."""
    if (overview := outcome.overview) is None:
        return []
    rows = [["", *(" = ".join(model.roles) for model in overview.models)]]
    for row in metrics(overview, robust_accuracies(outcome)):
        cells = [cell and f"{cell.said}{f' (n={cell.n:,})' if cell.n else ''}" for cell in row.cells]
        rows.append([row.line, *(cell or "–" for cell in cells)])
    return rows


def comparison_lines(overview: Overview, changed: Flips) -> list[str]:
    """Return two models as a table for the terminal; `changed` are the flips from the second to the first."""
    first, second = overview.models
    clean, *others = metrics(overview)
    by_class = [
        Row("", "", f"  {name}", [Cell(rate.value) if rate else None for rate in rates])
        for name, *rates in zip(overview.classes, first.per_class, second.per_class, strict=True)
    ]
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]
    for row in (clean, *by_class, *others):
        mine, theirs = row.cells
        if mine and theirs:
            gap = mine.value - theirs.value
            change = f"{gap:+d} images" if isinstance(gap, int) else _difference(gap)
            sample = f" (of {mine.n} images)" if 0 < mine.n < overview.n else ""
            rows.append((row.line + sample, mine.said, theirs.said, change))
    lines = [conclusion(overview, changed.as_json()), "", *aligned(rows), *filter(None, [left_out(overview)]), ""]
    titles, kinds = kinds_rows(overview)
    return [*lines, *aligned([titles, *(list(map(str, row)) for row in kinds)])]


def kinds_rows(overview: Overview, *, reference: ModelOverview | None = None) -> tuple[list[str], list[list[object]]]:
    """Return titles and rows of the failures by kind, one value a cell: clean counts, changes, corners.

    Values of the first model have a mark where they are worse than those of a reference.
    """
    models, changes = overview.models, overview.changes
    corners = all(kind.moved is not None for model in models for kind in model.failures)
    titles = ["kind", *(model.name for model in models), *(["new", "fixed", "shared"] if changes else [])]
    titles += [f"{model.name}, corners" for model in models] if corners else []
    rows: list[list[object]] = []
    for at, kinds in enumerate(zip(*(model.failures for model in models), strict=True)):
        known = kinds[models.index(reference)] if reference else kinds[0]
        counts = [kind.count for kind in kinds]
        row = [kinds[0].kind, marked(counts[0], mark_of_counts(counts[0], known.count)), *counts[1:]]
        if changes:
            change = changes.by_kind[at]
            mark = mark_of_counts(change.new, change.fixed) if reference else ""
            row += [marked(change.new, mark), change.fixed, change.shared]
        if corners:
            shares = [kind.moved or 0.0 for kind in kinds]
            mark = mark_of_counts(overview.sample * shares[0], overview.sample * (known.moved or 0.0))
            row += [marked(_share(shares[0]), mark), *map(_share, shares[1:])]
        rows.append(row)
    return titles, rows


def robust_accuracies(outcome: Outcome) -> dict[str, Rate]:
    """Return robust accuracy on the images of its check, by role: of the candidate, and of the incumbent's own run.

    The overview does not search again.
    """
    found = robust_verdict(outcome)
    if found is None or found.value is None or found.interval is None:
        return {}
    rates = {"candidate": Rate(found.value, *found.interval, found.n)}
    own = line_of_incumbent(outcome)
    if own is not None and (share := own.robust_accuracy) is not None:
        rates[INCUMBENT] = Rate(share, *proportion_interval(round(share * found.n), found.n), found.n)
    return rates


def line_of_incumbent(outcome: Outcome) -> Line | None:
    """Return the latest run of the incumbent, another model, with the same checks on the same data; None for none."""
    incumbent, candidate = outcome.models.get(INCUMBENT), outcome.models.get("candidate")
    if not (outcome.history and incumbent and candidate) or incumbent["sha256"] == candidate["sha256"]:
        return None
    asked = incumbent["sha256"], outcome.checks_sha256, str(outcome.data["sha256"]), outcome.profile
    same = [line for line in outcome.history.lines if (line.candidate, line.checks, line.data, line.profile) == asked]
    return same[-1] if same else None


def left_out(overview: Overview) -> str:
    """Return what an overview lacks, since enough images cost too much; empty if it has all."""
    if not overview.left_out:
        return ""
    titles = ", ".join(overview.left_out)
    return f"Not measured, since {TELLING} images, the fewest that tell enough, take too long: {titles}."


def classes(overview: Overview) -> Markup:
    """Return each class's accuracy for each model, with the first model's difference from the one compared with it."""
    reference = overview.reference
    rows = []
    for at, name in enumerate(overview.classes):
        rates = [model.per_class[at] for model in overview.models]
        row: list[object] = [name, *(_share(rate.value) if rate else "–" for rate in rates)]
        if reference:
            mine, theirs = rates[0], reference.per_class[at]
            change = _difference(mine.value - theirs.value) if mine and theirs else "–"
            mark = mark_of_rates(mine, theirs) if mine and theirs and overview.of_recipe else ""
            row.append(marked(change, mark))
        rows.append(row)
    titles = [f"change since {role_title(reference.name)}"] if reference else []
    return table(["class", *(role_title(model.name) for model in overview.models), *titles], rows, numbers=True)


def regressions(outcome: Outcome) -> Section | None:
    """Return new and fixed failures since the incumbent, for each behavior that was compared."""
    changed = [(verdict.check, verdict.flips) for verdict in outcome.verdicts if verdict.flips]
    if not changed:
        return None
    rows = []
    for check, flips in changed:
        lost, gained = len(flips["new_failures"]), len(flips["fixed_failures"])
        p = related(flips["mcnemar_p"]).removeprefix("= ")
        interval = "{:+.4f} to {:+.4f}".format(*flips["interval"])
        rows.append((check.id, marked(lost, mark_of_counts(lost, gained)), gained, f"{flips['net']:+.4f}", interval, p))
    check, clean = next(((check, flips) for check, flips in changed if check.pose == IDENTITY), changed[0])
    titles = ("behavior", "new failures", "fixed", "net change", "95% interval", "McNemar p")
    counts = f"{len(clean['new_failures'])} new and {len(clean['fixed_failures'])} fixed failures"
    body = table(titles, rows, numbers=True) + changes(check.id, clean, where=f"All {counts} are in stress.json.")
    return Section("incumbent", "Changes since the last accepted model (incumbent)", body)


def changes(name: str, flips: Mapping[str, Any], *, where: str) -> Markup:
    """Return the classes and pairs that changed most between two models; `flips` as in `Flips.as_json`.

    `where` names the place with all of the images.
    """
    parts = []
    for title, several in (("class", "classes"), ("pair", "pairs")):
        counts = [
            (item, marked(lost, mark_of_counts(lost, gained)), gained)
            for item, (lost, gained) in list(flips[f"by_{title}"].items())[:_MOST_CHANGED]
        ]
        if counts:
            parts.append(paragraphs(f"{name}: the most changed {several}"))
            parts.append(table((title, "new failures", "fixed"), counts, numbers=True))
    return Markup().join([*parts, paragraphs(where, kind="soft")])


def mark_of_rates(mine: Rate, theirs: Rate) -> str:
    """Return the mark of a share that should be large: significantly worse where the intervals are apart."""
    return _mark(worse=mine.value < theirs.value, significantly=mine.high < theirs.low)


def mark_of_counts(mine: float, theirs: float) -> str:
    """Return the mark of a count that should be small."""
    return _mark(worse=mine > theirs, significantly=significantly_more(mine, theirs))


def _mark(*, worse: bool, significantly: bool) -> str:
    return "" if not worse else SIGNIFICANT if significantly else NOT_SIGNIFICANT


def marked(text: object, mark: str) -> Markup | object:
    """Return a cell's text behind a mark, as an element; the text alone where there is no mark."""
    return render("marked", mark=mark, text=text, significant=mark == SIGNIFICANT) if mark else text
