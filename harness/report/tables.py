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
from harness.report.wording import looks_less, significantly_more
from harness.run.outcome import robust_verdict
from harness.run.overview import TELLING, Clean, Failing, Looking, Moved, Rate, RobustAccuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


class Metric(NamedTuple):
    """A share of each model, None where not measured; `title` and `about` are for a page, `line` is for text."""

    title: str
    about: str
    line: str
    rates: list[Rate | None]


def metrics(overview: Overview, robust: Mapping[str, Rate]) -> list[Metric]:
    """Return the main shares that some model has; `robust` is robust accuracy by role, on the images of its check."""
    known = overview.models
    found = [
        next((robust[role] for role in model.roles if role in robust), model[RobustAccuracy].robust_accuracy)
        for model in known
    ]
    corners, poses = "the corners ±10°, ±2 px", "all 225 poses within ±10°, ±2 px"
    of_corners = "accuracy at the corners of ±10°, ±2 px"
    several = (
        Metric("Clean accuracy", "", "clean accuracy", [model[Clean].accuracy for model in known]),
        Metric(
            "Accuracy rotated and translated", f"mean of {corners}", of_corners, [each[Moved].corners for each in known]
        ),
        Metric("Robust accuracy", poses, "robust accuracy (225 poses)", found),
    )
    return [metric for metric in several if any(metric.rates)]


def models(overview: Overview, robust: Mapping[str, Rate] | None = None) -> Markup:
    """Return the main metrics of the models side by side, with a mark on values worse than the compared model's.

    `robust` is as in `metrics`. Shares of other images carry no mark.
    """
    known, reference = overview.models, overview.of_recipe
    at = known.index(reference) if reference else 0
    rows: list[tuple[str, str, list[tuple[Any, str] | None]]] = []

    def add(title: str, about: str, cells: Sequence[tuple[object, str] | None], mark: str) -> None:
        first, *others = cells
        rows.append((title, about, [first and (marked(first[0], mark), first[1]), *others]))

    for title, about, _, rates in metrics(overview, robust or {}):
        shown = [
            (_share(rate.value), f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n={rate.n:,}") if rate else None
            for rate in rates
        ]
        mine, beside = rates[0], rates[at]
        add(title, about, shown, mark_of_rates(mine, beside) if mine and beside and mine.n == beside.n else "")
    sure = [model[Clean].confident_errors for model in known]
    counts = [
        ("–", "labels only") if count is None else (f"{count:,}", f"of {overview.n:,}{_its_own(model)}")
        for count, model in zip(sure, known, strict=True)
    ]
    own, theirs = sure[0], sure[at]
    mark = "" if own is None or theirs is None else mark_of_counts(own, theirs)
    add("Errors at high confidence", "over 90%", counts, mark)
    looks = [model[Looking].on_object_overall for model in known]
    if any(looks):
        about = "uniform baseline: the share of the image that the object fills"
        shown = [
            (f"{on.ratio:.0%}", f"uniform {on.uniform:.0%}, lift {on.lift:.2f}, n={on.n:,}") if on else None
            for on in looks
        ]
        at_object, elsewhere = looks[0], looks[at]
        mark = ""
        if at_object and elsewhere:
            mark = _mark(worse=at_object.lift < elsewhere.lift, significantly=looks_less(at_object, elsewhere))
        add("Grad-CAM mass on the object", about, shown, mark)
    titles = [" = ".join(map(role_title, model.roles)) for model in known]
    legend = " ".join(filter(None, (LEGEND if reference else "", left_out(overview))))
    return render("models", titles=titles, rows=rows) + paragraphs(legend, kind="soft")


def side_by_side(outcome: Outcome) -> list[list[str]]:
    """Return titles, one for each model, and a row for each metric that was measured; empty without an overview."""
    if (overview := outcome.overview) is None:
        return []
    rows = [["", *(" = ".join(model.roles) for model in overview.models)]]
    rows += [
        [line, *("–" if rate is None else f"{_share(rate.value)} (n={rate.n:,})" for rate in rates)]
        for _, _, line, rates in metrics(overview, robust_accuracies(outcome))
    ]
    sure = [model[Clean].confident_errors for model in overview.models]
    if any(count is not None for count in sure):
        rows.append(["errors above 90% confidence", *("–" if count is None else f"{count:,}" for count in sure)])
    return rows


def comparison_lines(overview: Overview, changed: Flips) -> list[str]:
    """Return two models as a table for the terminal; `changed` are the flips from the second to the first."""
    first, second = overview.models
    clean, *others = metrics(overview, {})
    by_class = zip(overview.classes, first[Clean].per_class, second[Clean].per_class, strict=True)
    rates = [(clean.line, clean.rates), *((f"  {name}", [mine, theirs]) for name, mine, theirs in by_class)]
    rates += [
        (line + (f" (of {found[0].n} images)" if found[0] and found[0].n < overview.n else ""), found)
        for _, _, line, found in others
    ]
    rows: list[tuple[str, ...]] = [("", first.name, second.name, "difference")]
    for title, (mine, theirs) in rates:
        if mine and theirs:
            shares = map(_share, (mine.value, theirs.value))
            rows.append((title, *shares, _difference(mine.value - theirs.value)))
    counts = (first[Clean].confident_errors, second[Clean].confident_errors)
    if counts[0] is not None and counts[1] is not None:
        rows.append(("errors above 90% confidence", *map(str, counts), f"{counts[0] - counts[1]:+d} images"))
    gaps = (first[Clean].calibration_error, second[Clean].calibration_error)
    if gaps[0] is not None and gaps[1] is not None:
        told = Unit.SHARE.told_apart(gaps[0], gaps[1])
        digits = len(told[0].removesuffix("%").partition(".")[2])
        rows.append(("expected calibration error", *told, f"{100 * (gaps[0] - gaps[1]):+.{digits}f} points"))
    looks = (first[Looking].on_object_overall, second[Looking].on_object_overall)
    if looks[0] and looks[1]:
        lifts = (looks[0].lift, looks[1].lift)
        texts = (f"{lift:.2f}" for lift in lifts)
        rows.append(("Grad-CAM mass on the object, lift", *texts, f"{lifts[0] - lifts[1]:+.2f}"))
    lines = [conclusion(overview, changed.as_json()), "", *aligned(rows), *filter(None, [left_out(overview)]), ""]
    titles, kinds = kinds_rows(overview)
    return [*lines, *aligned([titles, *(list(map(str, row)) for row in kinds)])]


def kinds_rows(overview: Overview) -> tuple[list[str], list[list[object]]]:
    """Return titles and rows of the failures by kind, one value a cell: clean counts, changes, corners."""
    models, changes = overview.models, overview.changes
    counts = list(zip(*(model[Failing].failures for model in models), strict=True))
    titles = ["kind", *(model.name for model in models)]
    rows: list[list[object]] = [[kinds[0].kind, *(kind.count for kind in kinds)] for kinds in counts]
    if changes:
        titles += ["new", "fixed", "shared"]
        for row, change in zip(rows, changes.by_kind, strict=True):
            row += [change.new, change.fixed, change.shared]
    if any(kind.moved is None for kinds in counts for kind in kinds):
        return titles, rows
    titles += [f"{model.name}, corners" for model in models]
    for row, kinds in zip(rows, counts, strict=True):
        row += [Unit.SHARE.format(kind.moved or 0.0) for kind in kinds]
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


def _its_own(model: ModelOverview) -> str:
    """Say how many of its confident errors are unique; empty without reference models."""
    own = next((kind.count for kind in model[Failing].failures if kind.kind == UNIQUE_CONFIDENT), None)
    return "" if own is None else f", {own} unique"


def classes(overview: Overview) -> Markup:
    """Return each class's accuracy for each model, with the first model's difference from the one compared with it."""
    reference = overview.reference
    rows = []
    for at, name in enumerate(overview.classes):
        rates = [model[Clean].per_class[at] for model in overview.models]
        row: list[object] = [name, *(_share(rate.value) if rate else "–" for rate in rates)]
        if reference:
            mine, theirs = rates[0], reference[Clean].per_class[at]
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
