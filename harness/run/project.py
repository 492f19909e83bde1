"""A repository's gate: its data, its settings, and what `list` shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import ConfigurationError
from harness.base.groups import pairs_of
from harness.checks import read_checks
from harness.checks.roles import ROLES
from harness.checks.tables import HEAD, hint_of_project
from harness.data.options import DataOptions
from harness.data.sources import CALLABLE, SOURCES
from harness.measures import METRICS
from harness.perturb.corruptions import CORRUPTIONS
from harness.run.request import OWN, RunRequest, own_settings, read_line, setting_of
from harness.run.settings import GROUPS, SETTINGS, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks.check import Check

Table = list[tuple[str, ...]]


def table_of(what: str, checks: Path) -> Table:
    """Return a table that `list` prints, titles first; raises `InputError` for a checks file that is refused."""
    from harness.inference.predictors.kinds import KINDS

    order = list(dict.fromkeys(GROUPS.values()))
    settings = sorted(SETTINGS.values(), key=lambda each: order.index(GROUPS[each.group]))
    tables: dict[str, Callable[[], Table]] = {
        "checks": lambda: [
            ("check", "family", "metric", "direction", "threshold", "provenance"),
            *map(_check_row, read_checks(checks).checks),
        ],
        "settings": lambda: [
            (
                "setting",
                "topic",
                "value",
                "meaning (without dashes: in the table [gate], or by --set)",
            ),
            *(
                (
                    option_of_pytest(each.name),
                    GROUPS.get(each.group, "Models"),
                    each.value or "–",
                    each.help,
                )
                for each in (*map(setting_of, ROLES), *settings)
            ),
        ],
        "metrics": lambda: [
            ("metric", "unit", "better", "meaning"),
            *(
                (name, each.unit.value, each.better, each.sentence)
                for name, each in METRICS.items()
            ),
        ],
        "corruptions": lambda: [
            ("corruption", "levels", "effect"),
            *((name, kind.levels_in_words, kind.effect) for name, kind in CORRUPTIONS.items()),
        ],
        "sources": lambda: [
            ("source", "meaning"),
            *((source.form(name), source.about) for name, source in SOURCES.items()),
            CALLABLE,
        ],
        "predictors": lambda: [
            ("candidate", "provides", "extra", "meaning"),
            *(
                (each.form, each.provides, each.extra or "–", each.help)
                for each in dict.fromkeys(KINDS.values())
            ),
        ],
    }
    return tables[what]()


def _check_row(check: Check) -> tuple[str, ...]:
    threshold, of = "informational", ""
    if check.binding:
        threshold, of = f"{check.binding.threshold:g}", str(check.provenance)
    return check.id, check.family, check.metric, check.direction or "", threshold, of


SHIPPED = "fashion-mnist"
"""The data that nobody has to name where the checks file is made for them."""


@dataclass(frozen=True)
class Project:
    """The gate of a repository: `request` has all its settings. `data_from` says where its data are named."""

    request: RunRequest
    data_from: str

    @property
    def data_line(self) -> str:
        """Return the line that says which data a command uses, and where they are named."""
        given = {
            name: value
            for name, value in self.request.given.items()
            if name in DataOptions.model_fields
        }
        given.pop("data", None)
        pipeline = [pair.replace("=", " ", 1) for pair in pairs_of(given)]
        return f"data: {', '.join([self.request.data, *pipeline])} (from {self.data_from})"


def project_of(checks: Path, given: Mapping[str, Any], arguments: Sequence[str] = ()) -> Project:
    """Return the gate of this repository; `given` settings win over its own, and options of pytest over both.

    Raises `InputError` where nothing names the data. The checks file says so for the shipped ones.
    """
    own = own_settings(Path())
    line, rest = read_line(arguments)
    request = RunRequest.of(own, given, line, options=rest)
    return Project(request, _data_from(checks, own, {**given, **line}))


def _data_from(checks: Path, own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return what names the data: the command line, the project's table, or a checks file for the shipped ones."""
    if "data" in given:
        return "the command line"
    if "data" in own:
        return str(OWN)
    made_for = read_checks(checks).data.name if checks.exists() else None
    if made_for == SHIPPED:
        return str(checks)
    there = f"{checks} is made for {made_for!r}" if made_for else f"there is no {checks}"
    if hint := hint_of_project(checks):
        raise ConfigurationError(
            f"no data are named: {there}. {hint}, or name the images with --data"
        )
    raise ConfigurationError(
        f"no data are named: {there}, and {OWN} has no data below {HEAD}. Name the images with --data, such as "
        f"folder:photos/test or {SHIPPED}; `stress-harness init --data` writes it down for all commands"
    )
