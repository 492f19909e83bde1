"""Tables of a report: the models side by side, what changed since the incumbent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.checks.roles import role_title
from harness.measures import Unit
from harness.measures.failures import UNIQUE_CONFIDENT
from harness.measures.statistics import related
from harness.perturb import IDENTITY
from harness.report.page import Section, render, table
from harness.report.wording import looks_less, significantly_more
from harness.run.overview import TELLING, Clean, Failing, Looking, Moved, RobustAccuracy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from harness.run.outcome import Outcome
    from harness.run.overview import ModelOverview, OnObject, Overview, Rate


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


def models(overview: Overview, robust: Mapping[str, Rate] | None = None) -> Markup:
    """Return the main metrics of the models side by side, with a mark on values worse than the compared model's.

    `robust` is robust accuracy by role, on the images of its check. Shares of other images carry no mark.
    """
    known, reference = overview.models, overview.of_recipe
    at = known.index(reference) if reference else None
    rows = []
    for title, about, rates in _compared(overview, robust or {}):
        beside = rates[at] if at is not None else None
        mark = mark_of_rates(rates[0], beside) if rates[0] and beside and rates[0].n == beside.n else ""
        rows.append({"title": title, "about": about, "cells": _first_marked([_rate(rate) for rate in rates], mark)})
    sure = [model[Clean].confident_errors for model in known]
    counts = [
        ("–", "labels only") if count is None else (f"{count:,}", f"of {overview.n:,}{_its_own(model)}")
        for count, model in zip(sure, known, strict=True)
    ]
    mine, beside_it = sure[0], None if at is None else sure[at]
    mark = "" if mine is None or beside_it is None else mark_of_counts(mine, beside_it)
    rows.append({"title": "Errors at high confidence", "about": "over 90%", "cells": _first_marked(counts, mark)})
    looks = [model[Looking].on_object_overall for model in known]
    if any(looks):
        about = "uniform baseline: the share of the image that the object fills"
        mark = mark_of_looks(looks[0], looks[at]) if at is not None else ""
        shares = [_attention(found) for found in looks]
        rows.append({"title": "Grad-CAM mass on the object", "about": about, "cells": _first_marked(shares, mark)})
    titles = [" = ".join(map(role_title, model.roles)) for model in known]
    legend = " ".join(filter(None, (LEGEND if reference else "", left_out(overview))))
    return render("models", titles=titles, rows=rows, legend=legend)


def left_out(overview: Overview) -> str:
    """Return what an overview lacks, since enough images cost too much; empty if it has all."""
    if not overview.left_out:
        return ""
    titles = ", ".join(overview.left_out)
    return f"Not measured, since {TELLING} images, the fewest that tell enough, take too long: {titles}."


def _first_marked(cells: Sequence[tuple[str, str] | None], mark: str) -> list[tuple[Any, str] | None]:
    """Return cells, each of a value and a line below it, with the mark on the first value."""
    first, *others = cells
    return [first and (marked(first[0], mark), first[1]), *others]


def _its_own(model: ModelOverview) -> str:
    """Say how many of its confident errors are unique; empty without reference models."""
    own = next((kind.count for kind in model[Failing].failures if kind.kind == UNIQUE_CONFIDENT), None)
    return "" if own is None else f", {own} unique"


def _compared(overview: Overview, robust: Mapping[str, Rate]) -> list[tuple[str, str, list[Rate | None]]]:
    known = overview.models
    rows: list[tuple[str, str, list[Rate | None]]] = [
        ("Clean accuracy", "", [model[Clean].accuracy for model in known]),
    ]
    if any(corners := [model[Moved].corners for model in known]):
        rows.append(("Accuracy rotated and translated", "mean of the corners ±10°, ±2 px", corners))
    found = [
        next((robust[role] for role in model.roles if role in robust), model[RobustAccuracy].robust_accuracy)
        for model in known
    ]
    if any(found):
        rows.append(("Robust accuracy", "all 225 poses within ±10°, ±2 px", found))
    return rows


def _rate(rate: Rate | None) -> tuple[str, str] | None:
    if rate is None:
        return None
    return _share(rate.value), f"{100 * rate.low:.1f}–{100 * rate.high:.1f}, n={rate.n:,}"


def _attention(found: OnObject | None) -> tuple[str, str] | None:
    if found is None:
        return None
    return f"{found.ratio:.0%}", f"uniform {found.uniform:.0%}, lift {found.lift:.2f}, n={found.n:,}"


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
    rows = [(check.id, *_lost_and_gained(flips), *_change(flips)) for check, flips in changed]
    check, clean = next(((check, flips) for check, flips in changed if check.pose == IDENTITY), changed[0])
    titles = ("behavior", "new failures", "fixed", "net change", "95% interval", "McNemar p")
    where = (
        f"All {len(clean['new_failures'])} new and {len(clean['fixed_failures'])} fixed failures are in stress.json."
    )
    body = changes(check.id, clean, where=where, compared=table(titles, rows, numbers=True))
    return Section("incumbent", "Changes since the last accepted model (incumbent)", body)


def changes(name: str, flips: Mapping[str, Any], *, where: str, compared: Markup | str = "") -> Markup:
    """Return the classes and pairs that changed most between two models; `flips` as in `Flips.as_json`.

    `compared` stands before it; `where` names the place with all of the images.
    """
    tables = []
    for title, several in (("class", "classes"), ("pair", "pairs")):
        counts = [
            (item, marked(lost, mark_of_counts(lost, gained)), gained)
            for item, (lost, gained) in list(flips[f"by_{title}"].items())[:_MOST_CHANGED]
        ]
        if counts:
            tables.append((several, table((title, "new failures", "fixed"), counts, numbers=True)))
    return render("changes", compared=compared, name=name, tables=tables, where=where)


def _lost_and_gained(flips: Mapping[str, Any]) -> tuple[object, int]:
    lost, gained = len(flips["new_failures"]), len(flips["fixed_failures"])
    return marked(lost, mark_of_counts(lost, gained)), gained


def _change(flips: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = flips["interval"]
    return f"{flips['net']:+.4f}", f"{low:+.4f} to {high:+.4f}", related(flips["mcnemar_p"]).removeprefix("= ")


SIGNIFICANT, NOT_SIGNIFICANT = "▼", "▽"
LEGEND = f"{SIGNIFICANT} significantly worse, {NOT_SIGNIFICANT} worse, but not significant."


def mark_of_rates(mine: Rate, theirs: Rate) -> str:
    """Return the mark of a share that should be large: significantly worse where the intervals are apart."""
    if mine.value >= theirs.value:
        return ""
    return SIGNIFICANT if mine.high < theirs.low else NOT_SIGNIFICANT


def mark_of_counts(mine: float, theirs: float) -> str:
    """Return the mark of a count that should be small."""
    if mine <= theirs:
        return ""
    return SIGNIFICANT if significantly_more(mine, theirs) else NOT_SIGNIFICANT


def mark_of_looks(mine: OnObject | None, theirs: OnObject | None) -> str:
    """Return the mark of Grad-CAM mass on the object: significantly worse where a hint names it."""
    if mine is None or theirs is None or mine.lift >= theirs.lift:
        return ""
    return SIGNIFICANT if looks_less(mine, theirs) else NOT_SIGNIFICANT


def marked(text: object, mark: str) -> Markup | object:
    """Return a cell's text behind a mark, as an element; the text alone where there is no mark."""
    return render("marked", mark=mark, text=text, significant=mark == SIGNIFICANT) if mark else text
