"""Accuracy by corruption and severity as a map: the difference from the reference models, what fails first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.measures.accuracy import ACCURACY
from harness.report.page import Section, paragraphs, render
from harness.report.wording import points

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_SEVERITIES = (1, 2, 3, 4, 5)
_FULL = 0.1
"""Difference from the reference models at which the color is full."""
_DIFFERENCE = (
    "Accuracy minus the mean of the reference models, in points, of {n:,} images: orange is below them, blue above. "
)
_ALONE = "Accuracy in percent, of {n:,} images. "


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
    if len(found) < 2:  # noqa: PLR2004  One corruption is no map.
        return None
    shown = [verdict for verdicts in found.values() for verdict in verdicts.values()]
    compared = all(_drop(verdict) is not None for verdict in shown)
    rows = [
        (name.replace("-", " "), [_cell(verdicts.get(at), compared=compared) for at in _SEVERITIES])
        for name, verdicts in sorted(found.items(), key=lambda item: _urgency(list(item[1].values())))
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


def _urgency(verdicts: list[Verdict]) -> tuple[int, float]:
    """Return the sort key of a row: its failing checks, then the mean of its differences, or of its values."""
    values = [verdict.value or 0.0 if (drop := _drop(verdict)) is None else drop for verdict in verdicts]
    return -sum(not verdict.passed for verdict in verdicts), sum(values) / len(values)


def _cell(verdict: Verdict | None, *, compared: bool) -> dict[str, Any] | None:
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    from harness.report.figures import BAD, GOOD
    from harness.report.matrices import ink_on

    if verdict is None or verdict.value is None:
        return None
    accuracy = verdict.unit.format(verdict.value)
    if compared:
        drop = _drop(verdict) or 0.0
        scale = LinearSegmentedColormap.from_list("better", [BAD, "#f7f7f7", GOOD])
        color = scale(0.5 + min(max(drop / _FULL, -1.0), 1.0) / 2)
        said = points(round(drop, 3) + 0.0)  # A zero has no minus.
    else:
        color, said = colormaps["cividis"](verdict.value), accuracy.removesuffix("%")
    fails = not verdict.passed
    return {
        "id": verdict.check.id,
        "said": f"({said})" if verdict.status == "informational" else f"{'✗ ' if fails else ''}{said}",
        "about": f"accuracy {accuracy}",
        "fails": fails,
        "color": to_hex(color),
        "ink": ink_on(color),
    }
