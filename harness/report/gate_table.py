"""The table of all gates: what each measured and must reach, to be searched, filtered, sorted, copied and saved."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from harness.gates.families import family_title
from harness.measures import Unit
from harness.report.again import command_of_one
from harness.report.page import Section, render
from harness.report.tables import SIGNS
from harness.report.wording import case, explained, healthy
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.gates import Verdict
    from harness.run.outcome import Outcome

_COLUMNS = (
    ("gate", ""),
    ("status", ""),
    ("measured", ""),
    ("must be", "must-be"),
    ("missed by", ""),
    ("retrained reference models", "retrains"),
    ("smallest loss detected", "detects"),
    ("n", ""),
    ("detail", ""),
)
"""The titles of the columns, and under which anchor the page says what they mean."""


def gates(outcome: Outcome) -> Section:
    """Return a row for each gate, which links can name by its id, the worst failures first."""
    verdicts = worst_first(outcome.verdicts)
    families = {name: str(at) for at, name in enumerate(dict.fromkeys(one.gate.family for one in verdicts))}
    classes = {name: str(at) for at, name in enumerate(_classes(outcome, verdicts))}
    command = shlex.split(outcome.command)
    rows = [
        {
            **_cells(verdict),
            "order": order,
            "family": families[verdict.gate.family],
            "classes": " ".join(classes[name] for name in _of_classes(verdict)),
            "command": command_of_one(command, verdict.gate.id),
        }
        for order, verdict in enumerate(verdicts)
    ]
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.status] = counts.get(verdict.status, 0) + 1
    body = render(
        "gates",
        columns=_COLUMNS,
        rows=rows,
        families=[(at, family_title(name)) for name, at in families.items()],
        classes=[(at, name) for name, at in classes.items()],
        statuses=[(status, SIGNS[status], count) for status, count in counts.items()],
    )
    return Section("gates", "All gates", body)


def _of_classes(verdict: Verdict) -> tuple[str, ...]:
    """Return the classes that a gate is about: one, the two of a pair, or none."""
    pair = verdict.gate.keys.get("pair") or ()
    return (verdict.gate.class_name,) if verdict.gate.class_name else tuple(map(str, pair))


def _classes(outcome: Outcome, verdicts: list[Verdict]) -> list[str]:
    """Return the classes that some gate is about, in the order of the data's."""
    about = dict.fromkeys(name for verdict in verdicts for name in _of_classes(verdict))
    known = [name for name in outcome.data.get("classes", ()) if name in about]
    return [*known, *(name for name in about if name not in known)]


def _cells(verdict: Verdict) -> Mapping[str, Any]:
    gate, known = verdict.gate, verdict.gate.healthy
    measured = bound = ""
    if verdict.value is not None:
        measured = verdict.unit.format(verdict.value)
        if verdict.limit is not None:
            measured, bound = verdict.unit.told_apart(verdict.value, verdict.limit)
            bound = f"{'≥' if gate.direction == 'at_least' else '≤'} {bound}"
    detects = known.detects if known else None
    unit = Unit.DIFFERENCE if verdict.unit is Unit.SHARE else verdict.unit
    return {
        "id": gate.id,
        "about": explained(gate.family),
        "behaviour": family_title(gate.family),
        "case": case(verdict),
        "status": verdict.status,
        "worse": not verdict.passed,
        "sign": SIGNS[verdict.status],
        "measured": (measured, verdict.value),
        "bound": (bound, verdict.limit),
        "direction": "" if verdict.limit is None else gate.direction or "at_least",
        "missed": verdict.missed,
        "healthy": (healthy(verdict), known.mean if known else None),
        "detects": ("" if detects is None else unit.told_apart(detects, 0.0)[0].removeprefix("+"), detects),
        "n": (f"{verdict.n:,}", verdict.n) if verdict.n else ("", None),
        "detail": "; ".join(filter(None, (verdict.detail, gate.not_gated if verdict.status == "not_gated" else ""))),
    }
