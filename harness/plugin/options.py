"""The gate's options on pytest's command line."""

from __future__ import annotations

import os
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import InputError
from harness.base.settings import BARE, add_settings, option_of_pytest, told, values_in
from harness.checks.roles import ROLES
from harness.plugin.leaving import HISTORY_OPTION
from harness.run.execute import taken_over
from harness.run.request import RunRequest
from harness.run.settings import MODEL_SETTINGS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TAKING_PATHS = {"--rootdir", "--confcutdir", "--basetemp", "--cov", "--ignore", "-c", "--config-file", HISTORY_OPTION}
"""Options of pytest and its plugins that are followed by a path, which then is none of tests."""


def add_options(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the gate's options, one group.

    Those whose names are common words only where there is a check: another project, which has this package in its
    environment for some reason, may have options of these names itself, and pytest ends when two plugins do.
    """
    plain = ", ".join(f"--{role}" for role in ROLES)
    about = f"{plain} and --checks are known where stress_tests/ has a check, or one is named"
    group = parser.getgroup("stress harness", f"model quality gate for image classifiers ({about})")
    if _has_gate(config):
        add_settings(group.addoption, MODEL_SETTINGS)
    add_settings(group.addoption, (setting for name, setting in SETTINGS.items() if name not in BARE))


def request_of_config(config: pytest.Config) -> RunRequest:
    """Return what the options ask for; raises `UsageError` for one that is none."""
    try:
        request = RunRequest.of(values_in(config.option), root=config.rootpath)
        request.expect_sound()
    except InputError as error:
        raise pytest.UsageError(told(error, option_of_pytest)) from None
    return taken_over(request)


def reports_named(config: pytest.Config) -> Path | None:
    """Return the folder of the reports of a gate run, by the command line as it was typed; None for another run.

    A command line that turns out to be wrong has no options yet.
    """
    typed = list(map(str, config.invocation_params.args))
    added = [*_split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.getini("addopts"))]
    stress_tests = (config.rootpath / "stress_tests").resolve()
    if not (_names_gate(typed, stress_tests, config) and holds_gate(stress_tests)):
        return None
    reports = "reports"
    arguments = [*added, *typed, ""]
    for each, following in pairwise(arguments):
        name, equals, value = each.partition("=")
        if name == "--stress-reports":
            reports = (value if equals else following) or reports
    return config.rootpath / reports


def _names_gate(typed: Sequence[str], stress_tests: Path, config: pytest.Config) -> bool:
    """Return whether a command line is of the gate: by a place that lies in it or holds it, or else by default."""
    if {each.partition("=")[0] for each in typed} & {"--candidate", "--checks"}:
        return True
    places = []
    for before, each in pairwise(["", *typed]):
        place = (config.invocation_params.dir / each.split("::")[0]).resolve()
        if stress_tests in (place, *place.parents):
            return True
        if not each.startswith("-") and before not in _TAKING_PATHS and place.exists():
            places.append(place)
    default = [config.rootpath / each for each in config.getini("testpaths")] or [config.rootpath]
    return any(place.resolve() in (stress_tests, *stress_tests.parents) for place in places or default)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # An open quotation, which pytest refuses.
        return []


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a gate run: some argument lies in, or holds, the folder of the checks file."""
    if any(getattr(config.option, f"stress_{name}", None) for name in ("candidate", "checks")):
        return True
    folder = (config.rootpath / "stress_tests").resolve()
    arguments = [(config.invocation_params.dir / str(arg).split("::")[0]).resolve() for arg in config.args]
    named = any(folder in (path, *path.parents) or path in folder.parents for path in arguments)
    return named and holds_gate(folder)


def _has_gate(config: pytest.Config) -> bool:
    """Return whether a gate may be run: the project has one, or the command line speaks of one."""
    arguments = (*config.invocation_params.args, *config.getini("addopts"))
    named = {str(argument).partition("=")[0] for argument in arguments}
    return not named.isdisjoint({"--candidate", "--checks"}) or holds_gate(config.rootpath / "stress_tests")


def holds_gate(folder: Path) -> bool:
    """Return whether stress tests of this harness are in the folder; another's may be called so, too."""
    if (folder / "checks.toml").exists():
        return True
    return any("harness.plugin" in file.read_text("utf-8", errors="ignore") for file in folder.glob("**/*.py"))
