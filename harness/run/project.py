"""A repository's gate: its data, its settings, and the tables that `list` prints."""

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


Table = list[tuple[str, ...]]


def table_of(title: str, checks: Path) -> Table:
    """Return a table that `list` prints, column titles first.

    Raises `InputError` for a checks file that is refused.
    """
    tables: dict[str, Callable[[], Table]] = {
        "checks": lambda: _table_of_checks(checks),
        "settings": _table_of_settings,
        "metrics": _table_of_metrics,
        "corruptions": _table_of_corruptions,
        "sources": _table_of_sources,
        "predictors": _table_of_predictors,
    }
    return tables[title]()


def _table_of_checks(path: Path) -> Table:
    rows: Table = [("check", "family", "metric", "direction", "threshold", "provenance")]
    for check in read_checks(path).checks:
        threshold = "informational"
        provenance = ""
        if check.binding:
            threshold = f"{check.binding.threshold:g}"
            provenance = str(check.provenance)
        direction = check.direction or ""
        rows.append((check.id, check.family, check.metric, direction, threshold, provenance))
    return rows


def _table_of_settings() -> Table:
    titles = list(dict.fromkeys(GROUPS.values()))
    settings = sorted(SETTINGS.values(), key=lambda setting: titles.index(GROUPS[setting.group]))
    about = "meaning (without dashes: in the table [gate], or by --set)"
    rows: Table = [("setting", "topic", "value", about)]
    for setting in (*map(setting_of, ROLES), *settings):
        topic = GROUPS.get(setting.group, "Models")
        rows.append((option_of_pytest(setting.name), topic, setting.value or "–", setting.help))
    return rows


def _table_of_metrics() -> Table:
    rows: Table = [("metric", "unit", "better", "meaning")]
    for name, metric in METRICS.items():
        rows.append((name, metric.unit.value, metric.better, metric.sentence))
    return rows


def _table_of_corruptions() -> Table:
    rows: Table = [("corruption", "levels", "effect")]
    for name, corruption in CORRUPTIONS.items():
        rows.append((name, corruption.levels_in_words, corruption.effect))
    return rows


def _table_of_sources() -> Table:
    rows: Table = [("source", "meaning")]
    for name, source in SOURCES.items():
        rows.append((source.form(name), source.about))
    return [*rows, CALLABLE]


def _table_of_predictors() -> Table:
    from harness.inference.predictors.kinds import KINDS

    rows: Table = [("candidate", "provides", "extra", "meaning")]
    for kind in dict.fromkeys(KINDS.values()):  # A kind may have several suffixes.
        rows.append((kind.form, kind.provides, kind.extra or "–", kind.help))
    return rows


SHIPPED = "fashion-mnist"
"""The data that nobody has to name where the checks file is made for them."""


@dataclass(frozen=True)
class Project:
    """The gate of a repository.

    `request` has all its settings. `data_from` says where its data are named.
    """

    request: RunRequest
    data_from: str

    @property
    def data_line(self) -> str:
        """Return the line that says which data a command uses, and where they are named."""
        pipeline_settings = {
            name: value
            for name, value in self.request.given.items()
            if name in DataOptions.model_fields and name != "data"
        }
        pipeline = [pair.replace("=", " ", 1) for pair in pairs_of(pipeline_settings)]
        return f"data: {', '.join([self.request.data, *pipeline])} (from {self.data_from})"


def project_of(checks: Path, settings: Mapping[str, Any], arguments: Sequence[str] = ()) -> Project:
    """Return the gate of this repository.

    Raises `InputError` where nothing names the data; a checks file made for the shipped data names
    them.

    Args:
        checks: the checks file.
        settings: win over those of the repository.
        arguments: options of pytest, which win over the `settings`.
    """
    of_table = own_settings(Path())
    of_line, options = read_line(arguments)
    request = RunRequest.of(of_table, settings, of_line, options=options)
    return Project(request, _data_from(checks, of_table, {**settings, **of_line}))


def _data_from(checks: Path, of_table: Mapping[str, Any], of_line: Mapping[str, Any]) -> str:
    """Return what names the data: the command line, the project's table, or a checks file."""
    if "data" in of_line:
        return "the command line"
    if "data" in of_table:
        return str(OWN)

    situation = f"there is no {checks}"
    if checks.exists():
        name = read_checks(checks).data.name
        if name == SHIPPED:
            return str(checks)
        situation = f"{checks} is made for {name!r}"

    hint = hint_of_project(checks)
    if hint:
        raise ConfigurationError(
            f"no data are named: {situation}. {hint}, or name the images with --data"
        )
    raise ConfigurationError(
        f"no data are named: {situation}, and {OWN} has no data below {HEAD}. Name the images with "
        f"--data, such as folder:photos/test or {SHIPPED}; `stress-harness init --data` writes it "
        "down for all commands"
    )
