"""The gate of a repository as its files describe it: the options of its pytest configuration, and its data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.errors import ConfigurationError
from harness.base.settings import options_of
from harness.checks import read_checks
from harness.checks.roles import INCUMBENT
from harness.data.settings import DATA_SETTINGS
from harness.run.model_settings import ModelSettings
from harness.run.pytest_configuration import ADDED, configuration_of, environment_options
from harness.run.request import model_spec, request_of, value_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.run.request import RunRequest

SHIPPED = "fashion-mnist"
"""The data that nobody has to name where the checks file is made for them."""


@dataclass(frozen=True)
class Project:
    """The gate of a repository: `request` has all its options. `data_from` says where its data are named."""

    request: RunRequest
    data_from: str

    @cached_property
    def model(self) -> ModelSettings:
        """Return data, network and device; raises `InputError` for what contradicts itself."""
        return ModelSettings.of(self.request.values)

    @property
    def incumbent(self) -> Path | str | None:
        """Return the incumbent that the options name; None where they name none."""
        named = self.request.roles.get(INCUMBENT)
        return None if named in {None, "none"} else model_spec(named)

    @property
    def data_line(self) -> str:
        """Return the line that says which data a command uses, and where they are named."""
        pipeline = [setting for setting in DATA_SETTINGS if setting.name != "data"]
        said = ", ".join([self.request.data, *map(" ".join, options_of(self.request.values, pipeline, str))])
        return f"data: {said} (from {self.data_from})"


def project_of(checks: Path, arguments: Sequence[str] = (), *, configured: bool = True) -> Project:
    """Return the gate whose checks file this is; `arguments` are further options of pytest, which win.

    With `configured` false, the pytest configuration says nothing. Raises `InputError` where nothing names the data.
    """
    request = request_of(arguments, tests=checks.parent if configured else None)
    return Project(request, _data_from(checks, arguments, configured=configured))


def _data_from(checks: Path, arguments: Sequence[str], *, configured: bool) -> str:
    """Return what names the data: the command line, the configuration, or a checks file for the shipped ones."""
    if value_in(arguments, "data"):
        return "the command line"
    found = configuration_of(checks.parent) if configured else None
    if configured and value_in(environment_options(), "data"):
        return ADDED
    if found is not None and value_in(found[1], "data"):
        return os.path.relpath(found[0])
    made_for = read_checks(checks).data.name if checks.exists() else None
    if made_for == SHIPPED:
        return str(checks)
    there = f"{checks} is made for {made_for!r}" if made_for else f"there is no {checks}"
    raise ConfigurationError(
        f"no data are named: {there}, and no pytest configuration here has --stress-data. Name the images with --data, "
        f"such as folder:photos/test or {SHIPPED}; `stress-harness init --data` writes it down for all commands"
    )
