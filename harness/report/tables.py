"""Tables of models side by side, for pages and as text, and changes since the incumbent."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.checks.roles import INCUMBENT, role_title
from harness.measures import Unit
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.statistics import proportion_interval, related
from harness.perturb import augmentation_range_poses
from harness.perturb.grids import CORNERS_TOO_FAR, NO_GEOMETRY
from harness.report.diagnosis import conclusion
from harness.report.page import Section, aligned, paragraphs, render, table
from harness.report.wording import significantly_more
from harness.run.history_line import line_of_incumbent, robust_verdict
from harness.run.overview import TELLING, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

    from harness.measures.flips import Flips
    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, Overview

_share, _difference = Unit.SHARE.format, Unit.DIFFERENCE.format

SIGNIFICANT, NOT_SIGNIFICANT = "▼", "▽"
LEGEND = f"{SIGNIFICANT} significantly worse, {NOT_SIGNIFICANT} worse, but not significant."


class Cell(NamedTuple):
    """A metric of one model.

    A share, or a count (int), what stands below it, and the images of a share.
    """

    value: float
    note: str = ""
    n: int = 0

    @property
    def said(self) -> str:
        """Return the value as text."""
        return f"{self.value:,}" if isinstance(self.value, int) else _share(self.value)


class TableRow(NamedTuple):
    """A metric of the models side by side, None where not measured.

    The mark is that of the first model, if it is worse than the compared one on as many images.
    """

    title: str
    cells: list[Cell | None]
    mark: str = ""


def metrics(overview: Overview, robust: Mapping[str, Rate] = {}) -> list[TableRow]:
    """Return the main metrics that some model has.

    `robust` is robust accuracy by role, on the images of its check.
    """
    known, at = (
        overview.models,
        overview.models.index(overview.of_recipe) if overview.of_recipe else 0,
    )
    found = [
        next((robust[role] for role in model.roles if role in robust), None) for model in known
    ]
    rows = []
    for title, rates in (
        ("clean accuracy", [model.accuracy for model in known]),
        (
            f"accuracy at the corners of {overview.augmentation.in_words()}",
            [model.corners for model in known],
        ),
        (f"robust accuracy ({len(augmentation_range_poses(overview.augmentation))} poses)", found),
    ):
        mine, theirs = rates[0], rates[at]
        mark = mark_of_rates(mine, theirs) if mine and theirs and mine.n == theirs.n else ""
        cells = [
            Cell(rate.value, f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n={rate.n:,}", rate.n)
            if rate
            else None
            for rate in rates
        ]
        rows.append(TableRow(title, cells, mark))
    counts: list[Cell | None] = []
    for model in known:  # Without reference models, no error is unique.
        unique = next(
            (f", {kind.count} unique" for kind in model.failures if kind.kind == UNIQUE_CONFIDENT),
            "",
        )
        count = model.confident_errors
        counts.append(None if count is None else Cell(count, f"of {overview.n:,}{unique}"))
    mark = (
        mark_of_counts(counts[0].value, beside.value)
        if counts[0] and (beside := counts[at])
        else ""
    )
    rows.append(TableRow("errors above 90% confidence", counts, mark))
    gaps = [None if (error := model.calibration_error) is None else Cell(error) for model in known]
    return [row for row in (*rows, TableRow("expected calibration error", gaps)) if any(row.cells)]


def models(overview: Overview, robust: Mapping[str, Rate] = {}) -> Markup:
    """Return the main metrics of the models side by side.

    Values worse than the compared model's have a mark.
    """
    rows = []
    for title, cells, mark in metrics(overview, robust):
        said = (
            render("two_lines", first=marked(cell.said, "" if at else mark), second=cell.note)
            if cell
            else "–"
            for at, cell in enumerate(cells)
        )
        rows.append((title[0].upper() + title[1:], *said))
    titles = ["", *(" = ".join(map(role_title, model.roles)) for model in overview.models)]
    legend = " ".join(filter(None, (LEGEND if overview.of_recipe else "", left_out(overview))))
    return table(titles, rows, numbers=True) + paragraphs(legend, kind="soft")


def side_by_side(outcome: Outcome) -> list[list[str]]:
    """Return titles, one for each model, and a row for each metric that was measured.

    Empty without an overview.
    """
    if (overview := outcome.findings.overview) is None:
        return []
    rows = [["", *(" = ".join(model.roles) for model in overview.models)]]
    for row in metrics(overview, robust_accuracies(outcome)):
        cells = [
            cell and f"{cell.said}{f' (n={cell.n:,})' if cell.n else ''}" for cell in row.cells
        ]
        rows.append([row.title, *(cell or "–" for cell in cells)])
    return rows


def comparison_lines(overview: Overview, changed: Flips) -> list[str]:
    """Return two models as a table for the terminal.

    `changed` are the flips from the second to the first.
    """
    first, second = overview.models
    clean, *others = metrics(overview)
    by_class = [
        TableRow(f"  {name}", [Cell(rate.value) if rate else None for rate in rates])
        for name, *rates in zip(overview.classes, first.per_class, second.per_class, strict=True)
    ]
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]
    for row in (clean, *by_class, *others):
        mine, theirs = row.cells
        if mine and theirs:
            gap = mine.value - theirs.value
            change = f"{gap:+d} images" if isinstance(gap, int) else _difference(gap)
            sample = f" (of {mine.n} images)" if 0 < mine.n < overview.n else ""
            rows.append((row.title + sample, mine.said, theirs.said, change))
    lines = [
        conclusion(overview, changed.as_json()),
        "",
        *aligned(rows),
        *filter(None, [left_out(overview)]),
        "",
    ]
    titles, kinds = kinds_rows(overview)
    return [*lines, *aligned([titles, *(list(map(str, row)) for row in kinds)])]


def kinds_rows(
    overview: Overview, *, reference: ModelOverview | None = None
) -> tuple[list[str], list[list[object]]]:
    """Return titles and rows of the failures by kind, one value a cell.

    Clean counts, changes, corners.

    Values of the first model have a mark where they are worse than those of a reference.
    """
    models, changes = overview.models, overview.changes
    corners = all(kind.moved is not None for model in models for kind in model.failures)
    titles = [
        "kind",
        *(model.name for model in models),
        *(["new", "fixed", "shared"] if changes else []),
    ]
    titles += [f"{model.name}, corners" for model in models] if corners else []
    rows: list[list[object]] = []
    for at, kinds in enumerate(zip(*(model.failures for model in models), strict=True)):
        known = kinds[models.index(reference)] if reference else kinds[0]
        counts = [kind.count for kind in kinds]
        row = [
            kinds[0].kind,
            marked(counts[0], mark_of_counts(counts[0], known.count)),
            *counts[1:],
        ]
        if changes:
            change = changes.by_kind[at]
            mark = mark_of_counts(change.new, change.fixed) if reference else ""
            row += [marked(change.new, mark), change.fixed, change.shared]
        if corners:
            shares = [kind.moved or 0.0 for kind in kinds]
            mark = mark_of_counts(
                overview.sample * shares[0], overview.sample * (known.moved or 0.0)
            )
            row += [marked(_share(shares[0]), mark), *map(_share, shares[1:])]
        rows.append(row)
    return titles, rows


def robust_accuracies(outcome: Outcome) -> dict[str, Rate]:
    """Return robust accuracy on the images of its check, by role.

    Of the candidate, and of the incumbent's own run.

    The overview does not search again.
    """
    found = robust_verdict(outcome)
    if found is None or found.value is None or found.interval is None:
        return {}
    rates = {"candidate": Rate(found.value, *found.interval, found.n)}
    own = line_of_incumbent(outcome)
    if own is not None and (share := own.robust_accuracy) is not None:
        rates[INCUMBENT] = Rate(
            share, *proportion_interval(round(share * found.n), found.n), found.n
        )
    return rates


def left_out(overview: Overview) -> str:
    """Return what an overview lacks, and why; empty if it has all."""
    if overview.left_out:
        titles = ", ".join(overview.left_out)
        return (
            f"Not measured, since {TELLING} images, the fewest that tell enough, take too long: "
            f"{titles}."
        )
    if not overview.sample:
        why = CORNERS_TOO_FAR if overview.augmentation.moves else NO_GEOMETRY
        return f"Not measured at the corners: {why}."
    return ""


def regressions(outcome: Outcome) -> Section | None:
    """Return new and fixed failures since the incumbent, for each behavior that was compared."""
    rows = []
    for check, flips in (
        (verdict.check, verdict.flips) for verdict in outcome.results.verdicts if verdict.flips
    ):
        lost, gained = len(flips["new_failures"]), len(flips["fixed_failures"])
        p = related(flips["mcnemar_p"]).removeprefix("= ")
        interval = "{:+.4f} to {:+.4f}".format(*flips["interval"])
        rows.append(
            (
                check.id,
                marked(lost, mark_of_counts(lost, gained)),
                gained,
                f"{flips['net']:+.4f}",
                interval,
                p,
            )
        )
    titles = ("behavior", "new failures", "fixed", "net change", "95% interval", "McNemar p")
    body = table(titles, rows, numbers=True) + paragraphs(
        "All of them are listed in stress.json.", kind="soft"
    )
    return (
        Section("incumbent", "Changes since the last accepted model (incumbent)", body)
        if rows
        else None
    )


def mark_of_rates(mine: Rate, theirs: Rate) -> str:
    """Return the mark of a share that should be large.

    Significantly worse where the intervals are apart.
    """
    return _mark(worse=mine.value < theirs.value, significantly=mine.high < theirs.low)


def mark_of_counts(mine: float, theirs: float) -> str:
    """Return the mark of a count that should be small."""
    return _mark(worse=mine > theirs, significantly=significantly_more(mine, theirs))


def _mark(*, worse: bool, significantly: bool) -> str:
    return "" if not worse else SIGNIFICANT if significantly else NOT_SIGNIFICANT


def marked(text: object, mark: str) -> Markup | object:
    """Return a cell's text behind a mark, as an element; the text alone where there is no mark."""
    return render("marked", mark=mark, text=text, significant=mark == SIGNIFICANT) if mark else text
