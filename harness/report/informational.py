"""Informational measurements: the weakest in a sentence, and accuracy by corruption and severity as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures.accuracy import ACCURACY
from harness.measures.worst_poses import RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN
from harness.report.page import Section, render
from harness.report.wording import case, measured_and_required

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_WEAKEST = 4
"""Measurements that are named below the headline, one of each behaviour or kind of damage."""
_RIGHT = {metric.name for metric in (ACCURACY, RANDOM_POSE_ACCURACY, ROBUST_ACCURACY, WORST_OF_TEN)}
"""Metrics that say how many images are right, which can be held against each other."""
_SEVERITIES = (1, 2, 3, 4, 5)


def informational_note(outcome: Outcome) -> Markup:
    """Return how much of what was measured is not judged, and the weakest of it; empty where all is judged."""
    measured = [verdict for verdict in outcome.verdicts if verdict.value is not None]
    unjudged = [verdict for verdict in measured if verdict.status == "informational"]
    weakest: dict[str, Verdict] = {}
    for verdict in sorted((each for each in unjudged if _is_right(each)), key=lambda each: each.value or 0.0):
        weakest.setdefault(f"{verdict.check.family} {verdict.check.keys.get('corruption', '')}", verdict)
    shown = [
        {"id": verdict.check.id, "case": _named(verdict), "measured": measured_and_required(verdict)[0]}
        for verdict in list(weakest.values())[:_WEAKEST]
    ]
    if not shown:
        return Markup()
    return render(
        "informational", count=len(unjudged), of=len(measured), shown=shown, mapped=corruption_map(outcome) is not None
    )


def corruption_map(outcome: Outcome) -> Section | None:
    """Return how right the candidate is on damaged images, by kind and severity, and what of that is judged.

    The weakest kind comes first. None where less than two kinds of damage were measured.
    """
    found: dict[str, dict[int, Verdict]] = {}
    for verdict in outcome.verdicts:
        keys = verdict.check.keys
        if _is_right(verdict) and keys.get("corruption") and keys.get("severity") in _SEVERITIES:
            found.setdefault(str(keys["corruption"]), {})[int(keys["severity"])] = verdict
    if len(found) < 2:  # noqa: PLR2004  One kind is no map.
        return None
    rows = [
        (name.replace("-", " "), [_cell(verdicts[at]) if at in verdicts else None for at in _SEVERITIES])
        for name, verdicts in sorted(found.items(), key=lambda item: _mean(list(item[1].values())))
    ]
    shown = [verdict for verdicts in found.values() for verdict in verdicts.values()]
    judged, images = sum(verdict.status != "informational" for verdict in shown), max(verdict.n for verdict in shown)
    lead = (
        f"Images that are right, in percent, of {images:,}; the weakest damage first. {judged} of {len(shown)} are "
        "judged; those in brackets are only measured, since reference models differ too much in them, or nobody set a "
        "threshold."
    )
    body = render("corruption_map", lead=lead, severities=_SEVERITIES, rows=rows)
    return Section("damage", "Damaged images, and what of them is not judged", body)


def _is_right(verdict: Verdict) -> bool:
    return verdict.check.role == "candidate" and verdict.metric in _RIGHT and verdict.value is not None


def _named(verdict: Verdict) -> str:
    keys = verdict.check.keys
    if keys.get("corruption") and keys.get("severity"):
        return f"{str(keys['corruption']).replace('-', ' ')}, severity {keys['severity']} of 5"
    return f"{family_title(verdict.check.family)}, {case(verdict)}"


def _mean(verdicts: list[Verdict]) -> float:
    return sum(verdict.value or 0.0 for verdict in verdicts) / len(verdicts)


def _cell(verdict: Verdict) -> dict[str, Any]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from harness.report.matrices import ink_on

    assert verdict.value is not None
    colour = colormaps["cividis"](verdict.value)
    said = verdict.unit.format(verdict.value).removesuffix("%")
    fails = not verdict.passed
    return {
        "id": verdict.check.id,
        "said": f"({said})" if verdict.status == "informational" else f"{'✗ ' if fails else ''}{said}",
        "fails": fails,
        "colour": to_hex(colour),
        "ink": ink_on(colour),
    }
