"""The table of all checks: what each measured and must reach, to be searched, filtered, sorted, copied and saved."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from harness.checks.families import family_title
from harness.measures import Unit
from harness.report.page import Section, render
from harness.report.tables import SIGNS
from harness.report.wording import case, explained, or_not_significant, reference
from harness.run.outcome import worst_first
from harness.run.request import rerun_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_COLUMNS = (
    ("check", ""),
    ("status", ""),
    ("measured", ""),
    ("threshold", "threshold"),
    ("missed by", ""),
    ("reference models", "reference-models"),
    ("minimum detectable drop", "minimum-detectable-drop"),
    ("n", ""),
    ("detail", ""),
)
"""The titles of the columns, and under which anchor the page says what they mean."""


def checks(outcome: Outcome) -> Section:
    """Return a row for each check, which links can name by its id, the worst failures first."""
    verdicts = worst_first(outcome.verdicts)
    families = {name: str(at) for at, name in enumerate(dict.fromkeys(one.check.family for one in verdicts))}
    about = dict.fromkeys(name for verdict in verdicts for name in _of_classes(verdict))
    known = [name for name in outcome.data.get("classes", ()) if name in about]  # In the order of the data's.
    classes = {name: str(at) for at, name in enumerate(dict.fromkeys([*known, *about]))}
    command = shlex.split(outcome.command)
    rows = [
        {
            **_cells(verdict),
            "order": order,
            "family": families[verdict.check.family],
            "classes": " ".join(classes[name] for name in _of_classes(verdict)),
            "command": rerun_command(command, verdict.check.id),
            "known": outcome.known_text(verdict.check.id),
            "more": Markup(outcome.details.get(verdict.check.id, "")),  # noqa: S704  Made by our templates.
        }
        for order, verdict in enumerate(verdicts)
    ]
    counts = Counter(verdict.status for verdict in verdicts)
    body = render(
        "checks",
        columns=_COLUMNS,
        rows=rows,
        families=[(at, family_title(name)) for name, at in families.items()],
        classes=[(at, name) for name, at in classes.items()],
        statuses=[(status, SIGNS[status], count) for status, count in counts.items()],
    )
    return Section("checks", "All checks", body)


def _of_classes(verdict: Verdict) -> tuple[str, ...]:
    """Return the classes that a check is about: one, the two of a pair, or none."""
    pair = verdict.check.keys.get("pair") or ()
    return (verdict.check.class_name,) if verdict.check.class_name else tuple(map(str, pair))


def _cells(verdict: Verdict) -> Mapping[str, Any]:
    check, known = verdict.check, verdict.check.reference
    measured = threshold = ""
    if verdict.value is not None:
        measured = verdict.unit.format(verdict.value)
        if verdict.limit is not None:
            measured, threshold = verdict.unit.told_apart(verdict.value, verdict.limit)
            threshold = f"{'≥' if check.direction == 'at_least' else '≤'} {threshold}{or_not_significant(verdict)}"
    why = check.informational if verdict.status == "informational" else ""
    drop = known.minimum_detectable_drop if known else None
    unit = Unit.DIFFERENCE if verdict.unit is Unit.SHARE else verdict.unit
    return {
        "id": check.id,
        "about": explained(check.family),
        "behavior": family_title(check.family),
        "case": case(verdict),
        "status": verdict.status,
        "worse": not verdict.passed,
        "sign": SIGNS[verdict.status],
        "measured": (measured, verdict.value),
        "threshold": (threshold, verdict.threshold),
        "direction": "" if verdict.threshold is None else check.direction or "at_least",
        "missed": verdict.missed,
        "reference": (reference(verdict), known.mean if known else None),
        "minimum_detectable_drop": ("" if drop is None else unit.told_apart(drop, 0.0)[0].removeprefix("+"), drop),
        "n": (f"{verdict.out_of:,}", verdict.out_of) if verdict.n else ("", None),
        "detail": "; ".join(filter(None, (verdict.excused, verdict.detail, why))),
    }
