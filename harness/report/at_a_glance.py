"""Behaviors at a glance: the smallest margins, common corruptions as a map, and the weakest without a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.worst_poses import RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN
from harness.report.check_figures import about_band
from harness.report.closest import known_margins
from harness.report.figures import BAD, GOOD, LOOKS, HeatMap, Series, dots, heat_maps
from harness.report.page import Illustration, Section, figures_html, folded, render, table
from harness.report.tables import line_of_incumbent
from harness.report.wording import case, explained, measured_and_required, points, reference
from harness.run.history import FARTHEST
from harness.run.outcome import spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.figure import Figure

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_REACH = 10.0
"""Ends of the scale, in standard deviations; a margin beyond an end stands there."""
_FEWEST = 2
"""Families of a figure of margins, and corruptions of a map, at least."""
_SEVERITIES = (1, 2, 3, 4, 5)
_FULL = 0.1
"""Difference from the reference models at which the color is full."""
_WEAKEST = 4
"""Measurements that are named below the headline, one of each behavior or kind of corruption."""
_SHARES_CORRECT = {metric.name for metric in (ACCURACY, RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN)}
"""Metrics that are shares of correct predictions, which compare with each other."""


def margins(outcome: Outcome) -> Section | None:
    """Return the smallest margin of each family whose reference models are known; None with fewer than two families."""
    smallest: dict[str, tuple[float, Verdict]] = {}
    for away, verdict in known_margins(outcome.verdicts):
        family = verdict.check.family
        known = verdict.check.reference is not None and verdict.check.reference.mean is not None
        if known and (family not in smallest or away < smallest[family][0]):
            smallest[family] = away, verdict
    if len(smallest) < _FEWEST:
        return None
    own = line_of_incumbent(outcome)
    theirs = own.margins if own else {}
    ranked = dict(sorted(smallest.items(), key=lambda item: item[1][0]))
    rows = [
        (
            render("linked", anchor=explained(family), text=family_title(family)),
            _written(away),
            _written(theirs[family]) if family in theirs else "–",
            render("linked", anchor=verdict.check.id, text=verdict.check.id),
        )
        for family, (away, verdict) in ranked.items()
    ]
    said = ", ".join(f"{family_title(name)} {_written(away)}" for name, (away, _) in ranked.items())
    shown = Illustration(
        "",
        "Distance from the threshold, in standard deviations of the reference models. Left of the dashed line, a "
        f"check fails. A margin of more than {_REACH:.0f} stands at the end.{about_band(ranked)}",
        f"Smallest margins: {said}.",
        lambda: margin_dots(ranked, theirs),
    )
    listed = table(("behavior", "margin", "incumbent", "check"), rows)
    body = figures_html([shown]) + folded(f"The {len(rows)} margins, as a table", listed)
    return Section("margins", "Smallest margin of each behavior", body)


def margin_dots(smallest: Mapping[str, tuple[float, Verdict]], incumbent: Mapping[str, float]) -> Figure:
    """Draw the smallest margin of each family, in standard deviations, beside that of the incumbent."""
    centers = []
    for _, verdict in smallest.values():
        known, binding, share = verdict.check.reference, verdict.check.binding, 1.0
        assert known is not None
        if verdict.unit is Unit.IMAGES and binding is not None:  # A count is scaled as its threshold is.
            share = verdict.n / binding.n if binding.n else verdict.check.share
        sign, threshold = -1 if verdict.check.direction == "at_most" else 1, verdict.threshold or 0.0
        centers.append(sign * ((known.mean or 0.0) * share - threshold) / spread(threshold, known.std))
    places = range(len(centers))
    series = []
    for name, fails, look in (
        ("candidate, passes", False, LOOKS[0]),
        ("candidate, fails", True, {"color": BAD, "marker": "X"}),
    ):
        own = {at: away for at, (away, verdict) in enumerate(smallest.values()) if verdict.passed != fails}
        series.append(Series(name, [*own], _within(own.values()), look={**look, "markersize": 7}))
    other = {at: incumbent[name] for at, name in enumerate(smallest) if name in incumbent}
    hollow = {**LOOKS[2], "marker": "o", "markersize": 7, "markerfacecolor": "none"}
    series.append(Series("incumbent", [*other], _within(other.values()), look=hollow))
    return dots(
        [family_title(name) for name in smallest],
        *series,
        x="margin, in standard deviations",
        band=Series.of_reference(places, centers, [1.0] * len(centers), (-_REACH, _REACH)),
        upright=(0.0, "threshold"),
        limits=(-_REACH - 0.4, _REACH + 0.4),
        apart=0,
    )


def _within(values: Iterable[float]) -> list[float]:
    return [min(max(value, -_REACH), _REACH) for value in values]


def _written(value: float) -> str:
    """Return a margin as the page has it; those at the limit of a margin are that or more."""
    written = f"{value:+.1f}" if abs(value) < FARTHEST else f"{'<' if value < 0 else '>'} {value:+.0f}"
    return written.replace("-", "−")


def corruption_map(outcome: Outcome) -> Section | None:
    """Return the candidate's accuracy by corruption and severity, against the reference models where they are known.

    Rows with failing checks come first, then the largest drops. None with fewer than two corruptions.
    """
    found: dict[str, dict[int, Verdict]] = {}
    for verdict in outcome.verdicts:
        keys = verdict.check.keys
        measured = (verdict.check.role, verdict.metric) == ("candidate", ACCURACY.name) and verdict.value is not None
        if measured and keys.get("corruption") and keys.get("severity") in _SEVERITIES:
            found.setdefault(str(keys["corruption"]), {})[int(keys["severity"])] = verdict
    if len(found) < _FEWEST:
        return None
    shown = [verdict for verdicts in found.values() for verdict in verdicts.values()]
    compared = all(_drop(verdict) is not None for verdict in shown)

    def urgency(name: str) -> tuple[int, float]:
        verdicts = found[name].values()
        values = [(_drop(verdict) if compared else verdict.value) or 0.0 for verdict in verdicts]
        return -sum(not verdict.passed for verdict in verdicts), sum(values) / len(values)

    judged, failing = (sum(verdict.status in of for verdict in shown) for of in ({"pass", "fail"}, {"fail"}))
    of = "Accuracy minus the mean of the reference models, in points" if compared else "Accuracy in percent"
    colors = ": orange is below them, blue above" if compared else ""
    illustration = Illustration(
        "",
        f"{of}, of {max(verdict.n for verdict in shown):,} images{colors}. {judged} of {len(shown)} have a threshold; "
        "those in brackets are informational. A cross marks a check that fails; these corruptions come first.",
        f"{of} under {len(found)} corruptions at five severities; {failing} checks fail.",
        lambda: corruption_heat_map({name: found[name] for name in sorted(found, key=urgency)}, compared=compared),
        is_map=True,
    )
    return Section("damage", "Common corruptions", figures_html([illustration]))


def corruption_heat_map(found: Mapping[str, Mapping[int, Verdict]], *, compared: bool) -> Figure:
    """Draw accuracy by corruption and severity, or what it is `compared` with the reference models."""
    values, texts = np.full((len(found), len(_SEVERITIES)), np.nan), []
    for row, verdicts in enumerate(found.values()):
        texts.append([""] * len(_SEVERITIES))
        for column, verdict in enumerate(map(verdicts.get, _SEVERITIES)):
            if verdict is not None:
                values[row, column] = drop = (_drop(verdict) if compared else verdict.value) or 0.0
                said = points(round(drop, 3) + 0.0) if compared else f"{100 * drop:.1f}"  # A zero has no minus.
                fails = "" if verdict.passed else "✗ "
                texts[row][column] = f"({said})" if verdict.status == "informational" else f"{fails}{said}"
    colors, limits = ((BAD, "#f7f7f7", GOOD), (-_FULL, _FULL)) if compared else ("cividis", (0.0, 1.0))
    shown = HeatMap(
        "", values, [name.replace("-", " ") for name in found], colors, limits, texts, columns=tuple("12345")
    )
    return heat_maps(shown, x="severity", y="", height=0.9 + 0.25 * len(found))


def _drop(verdict: Verdict) -> float | None:
    """Return by how much accuracy differs from the mean of the reference models; None where that is not known."""
    known = verdict.check.reference
    if verdict.value is None or known is None or known.mean is None:
        return None
    return verdict.value - known.mean


def informational_note(outcome: Outcome) -> Markup:
    """Return the lowest informational accuracies with those of reference models, folded; empty without any."""
    lowest = [
        verdict
        for verdict in outcome.verdicts
        if (verdict.status, verdict.check.role) == ("informational", "candidate")
        if verdict.metric in _SHARES_CORRECT and verdict.value is not None
    ]
    weakest: dict[str, Verdict] = {}
    for verdict in sorted(lowest, key=lambda each: each.value or 0.0):
        weakest.setdefault(f"{verdict.check.family} {verdict.check.keys.get('corruption', '')}", verdict)
    shown = []
    for verdict in list(weakest.values())[:_WEAKEST]:
        keys, said = verdict.check.keys, f"{family_title(verdict.check.family)}, {case(verdict)}"
        if keys.get("corruption") and keys.get("severity"):
            said = f"{str(keys['corruption']).replace('-', ' ')}, severity {keys['severity']} of 5"
        shown.append((verdict.check.id, said, measured_and_required(verdict)[0], reference(verdict)))
    if not shown:
        return Markup()
    return render("informational", counts=outcome.counts, shown=shown, mapped=corruption_map(outcome) is not None)
