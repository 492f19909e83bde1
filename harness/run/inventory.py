"""Inventory of a gate: the checks of a checks file; metrics, corruptions, data sources and predictors that exist.

Each is a table for the terminal, its titles first; those of installed packages are among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks import read_checks
from harness.checks.roles import ROLES
from harness.data.sources import SOURCES
from harness.measures import METRICS
from harness.perturb.corruptions import CORRUPTIONS
from harness.run.request import setting_of
from harness.run.settings import GROUPS, SETTINGS, option_of_pytest

if TYPE_CHECKING:
    from pathlib import Path

Table = list[tuple[str, ...]]


def checks_table(path: Path) -> Table:
    """Return the checks of a checks file; raises `InputError` for a file that is refused."""
    titles = ("check", "family", "metric", "direction", "threshold", "provenance")
    rows: Table = []
    for check in read_checks(path).checks:
        threshold, of = "informational", ""
        if check.binding:
            threshold, of = f"{check.binding.threshold:g}", str(check.provenance)
        rows.append((check.id, check.family, check.metric, check.direction or "", threshold, of))
    return [titles, *rows]


def settings_table() -> Table:
    """Return the settings of a run, by topic: each with its place, its values, its default in the help."""
    order = list(dict.fromkeys(GROUPS.values()))
    found = sorted(SETTINGS.values(), key=lambda each: order.index(GROUPS[each.group]))
    rows = [
        (option_of_pytest(each.name), GROUPS.get(each.group, "Models"), each.value, each.help)
        for each in (*map(setting_of, ROLES), *found)
    ]
    return [("setting", "topic", "value", "meaning"), *rows]


def metrics_table() -> Table:
    """Return the metrics that a check can name."""
    rows = [(name, each.unit.value, each.better, each.words) for name, each in METRICS.items()]
    return [("metric", "unit", "better", "meaning"), *rows]


def corruptions_table() -> Table:
    """Return the corruptions that a check can name."""
    return [("corruption",), *((name,) for name in CORRUPTIONS)]


def sources_table() -> Table:
    """Return the sources of test images."""
    rows = [(f"{name}:{each.takes}" if each.takes else name, each.about) for name, each in SOURCES.items()]
    return [("source", "meaning"), *rows]


def predictors_table() -> Table:
    """Return the kinds of models that an option can name, with what each provides and the extra that it needs."""
    from harness.inference.predictors.kinds import KINDS

    rows = [(each.form, each.provides, each.extra or "–", each.help) for each in dict.fromkeys(KINDS.values())]
    return [("candidate", "provides", "extra", "meaning"), *rows]
