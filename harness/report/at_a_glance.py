"""Behaviors at a glance: the smallest margins, common corruptions as a map, and the weakest without a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures import Unit
from harness.measures.accuracy import ACCURACY
from harness.measures.worst_poses import RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN
from harness.report.closest import known_margins
from harness.report.page import Section, paragraphs, render
from harness.report.tables import line_of_incumbent
from harness.report.wording import case, explained, measured_and_required, points, reference
from harness.run.history import FARTHEST
from harness.run.outcome import spread

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_LEFT, _RIGHT = -10.0, 10.0
"""Ends of the scale, in standard deviations; a margin beyond an end stands there, with its number."""
_FEWEST = 2
"""Families of a figure of margins, and corruptions of a map, at least."""
_SEVERITIES = (1, 2, 3, 4, 5)
_FULL = 0.1
"""Difference from the reference models at which the color is full."""
_DIFFERENCE = (
    "Accuracy minus the mean of the reference models, in points, of {n:,} images: orange is below them, blue above. "
)
_ALONE = "Accuracy in percent, of {n:,} images. "
_WEAKEST = 4
"""Measurements that are named below the headline, one of each behavior or kind of corruption."""
_SHARES_CORRECT = {metric.name for metric in (ACCURACY, RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN)}
"""Metrics that are shares of correct predictions, which compare with each other."""


class _Row(NamedTuple):
    """The smallest margin of a family; `center` is where the mean of the reference models lies."""

    verdict: Verdict
    margin: float
    center: float


def margins(outcome: Outcome) -> Section | None:
    """Return the smallest margin of each family whose reference models are known; None with fewer than two families."""
    smallest: dict[str, _Row] = {}
    for away, verdict in known_margins(outcome.verdicts):
        known, family, binding = verdict.check.reference, verdict.check.family, verdict.check.binding
        if known is None or known.mean is None or verdict.threshold is None:
            continue
        if family in smallest and smallest[family].margin <= away:
            continue
        share = 1.0
        if verdict.unit is Unit.IMAGES and binding is not None:  # A count is scaled as its threshold is.
            share = verdict.n / binding.n if binding.n else verdict.check.share
        sign = -1 if verdict.check.direction == "at_most" else 1
        center = sign * (known.mean * share - verdict.threshold) / spread(verdict.threshold, known.std)
        smallest[family] = _Row(verdict, away, center)
    if len(smallest) < _FEWEST:
        return None
    own = line_of_incumbent(outcome)
    theirs = own.margins if own else {}
    rows = []
    for verdict, away, center in sorted(smallest.values(), key=lambda row: row.margin):
        incumbent = theirs.get(verdict.check.family)
        left, right = _place(center - 2), _place(center + 2)
        rows.append(
            {
                "family": family_title(verdict.check.family),
                "about": explained(verdict.check.family),
                "id": verdict.check.id,
                "fails": not verdict.passed,
                "margin": _written(away),
                "at": _place(away),
                "beyond": not _LEFT <= away <= _RIGHT,
                "band": (left, right - left),
                "incumbent": None if incumbent is None else _written(incumbent),
                "incumbent_at": None if incumbent is None else _place(incumbent),
            }
        )
    compared = any(row["incumbent"] is not None for row in rows)
    body = render("margins", rows=rows, zero=_place(0.0), compared=compared)
    return Section("margins", "Smallest margin of each behavior", body)


def _written(value: float) -> str:
    """Return a margin as the page has it; those at the limit of a margin are that or more."""
    written = f"{value:+.1f}" if abs(value) < FARTHEST else f"{'<' if value < 0 else '>'} {value:+.0f}"
    return written.replace("-", "−")


def _place(value: float) -> float:
    """Return where a margin stands on the scale, in percent of its width."""
    return round(100 * (min(max(value, _LEFT), _RIGHT) - _LEFT) / (_RIGHT - _LEFT), 1)


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
        values = [verdict.value or 0.0 if (drop := _drop(verdict)) is None else drop for verdict in verdicts]
        return -sum(not verdict.passed for verdict in verdicts), sum(values) / len(values)

    rows = [
        (name.replace("-", " "), [_cell(found[name].get(at), compared=compared) for at in _SEVERITIES])
        for name in sorted(found, key=urgency)
    ]
    judged, images = sum(verdict.status != "informational" for verdict in shown), max(verdict.n for verdict in shown)
    lead = (
        f"{(_DIFFERENCE if compared else _ALONE).format(n=images)}{judged} of {len(shown)} have a threshold; those in "
        "brackets are informational. A cross marks a check that fails; these corruptions come first."
    )
    body = paragraphs(lead, kind="soft") + render("corruption_map", severities=_SEVERITIES, rows=rows)
    return Section("damage", "Common corruptions", body)


def _drop(verdict: Verdict) -> float | None:
    """Return by how much accuracy differs from the mean of the reference models; None where that is not known."""
    known = verdict.check.reference
    if verdict.value is None or known is None or known.mean is None:
        return None
    return verdict.value - known.mean


def _cell(verdict: Verdict | None, *, compared: bool) -> dict[str, Any] | None:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    from harness.report.figures import BAD, GOOD, ink_on

    if verdict is None or verdict.value is None:
        return None
    accuracy, fails = verdict.unit.format(verdict.value), not verdict.passed
    if compared:
        drop = _drop(verdict) or 0.0
        scale = LinearSegmentedColormap.from_list("better", [BAD, "#f7f7f7", GOOD])
        color = scale(0.5 + min(max(drop / _FULL, -1.0), 1.0) / 2)
        said = points(round(drop, 3) + 0.0)  # A zero has no minus.
    else:
        color, said = colormaps["cividis"](verdict.value), accuracy.removesuffix("%")
    return {
        "id": verdict.check.id,
        "said": f"({said})" if verdict.status == "informational" else f"{'✗ ' if fails else ''}{said}",
        "about": f"accuracy {accuracy}",
        "fails": fails,
        "color": to_hex(color),
        "ink": ink_on(color),
    }


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
