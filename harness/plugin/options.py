"""Pytest's command line: the gate's options on it, and whether a run is one of the gate, of which project."""

from __future__ import annotations

import os
import shlex
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import InputError
from harness.base.settings import add_settings, told, values_in
from harness.checks.roles import ROLES
from harness.run.execute import taken_over
from harness.run.request import RunRequest, joined, paths_behind, value_in
from harness.run.settings import SETTINGS, is_bare, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NAMING = ("candidate", "checks")
"""Settings that make a run one of the gate, wherever it is."""
_TAKING_PATHS = {
    *("--rootdir", "--confcutdir", "--basetemp", "--cov", "--ignore", "-c", "--config-file"),
    option_of_pytest("history"),
}
"""Options of pytest and its plugins that are followed by a path, which then is none of tests."""


def add_options(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the gate's options, one group.

    Those whose names are common words only where there is a check: another project, which has this package in its
    environment for some reason, may have options of these names itself, and pytest ends when two plugins do.
    """
    plain = ", ".join(f"--{role}" for role in ROLES)
    about = f"{plain} and --checks are known where stress_tests/ has a gate, or one is named"
    group = parser.getgroup("stress harness", f"model quality gate for image classifiers ({about})")
    known = [setting for name, setting in SETTINGS.items() if may_be_gate_run(config) or not is_bare(name)]
    add_settings(group.addoption, known, option_of_pytest)


def request_of_config(config: pytest.Config) -> RunRequest:
    """Return what the options ask for; raises `UsageError` for one that is none."""
    try:
        request = RunRequest.of(values_in(config.option), root=config.rootpath)
        request.expect_sound()
    except InputError as error:
        raise pytest.UsageError(told(error, option_of_pytest)) from None
    return taken_over(request)


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a gate run: by a setting, or since a place of tests lies in the gate's folder or holds it.

    Before pytest has parsed its command line, which may be wrong, it goes by what was typed.
    """
    if _is_named(config):
        return True
    folder = _stress_tests(config)
    touched = any(folder in (place, *place.parents) or place in folder.parents for place in _places(config, folder))
    return touched and _holds_gate(folder)


def may_be_gate_run(config: pytest.Config) -> bool:
    """Return whether the project has a gate, or the command line speaks of one."""
    return _is_named(config) or _holds_gate(_stress_tests(config))


def reports_named(config: pytest.Config) -> Path | None:
    """Return the folder of the reports of a gate run whose options are not known yet; None for another run."""
    if not (is_gate_run(config) and _holds_gate(_stress_tests(config))):
        return None
    return config.rootpath / (value_in(_line(config), "reports") or "reports")


def _line(config: pytest.Config) -> list[str]:
    """Return the command line with all that is added to it, as far as that can be read."""
    try:
        added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:  # An open quotation, which pytest refuses.
        added = []
    return [*added, *map(str, config.getini("addopts")), *map(str, config.invocation_params.args)]


def _is_named(config: pytest.Config) -> bool:
    options = {each.partition("=")[0] for each in _line(config)}
    return any(option_of_pytest(name) in options or getattr(config.option, f"stress_{name}", None) for name in _NAMING)


def _stress_tests(config: pytest.Config) -> Path:
    return (config.rootpath / "stress_tests").resolve()


def _holds_gate(folder: Path) -> bool:
    """Return whether stress tests of this harness are in the folder; another's may be called so, too."""
    if (folder / "checks.toml").exists():
        return True
    return any("harness.plugin" in file.read_text("utf-8", errors="ignore") for file in folder.glob("**/*.py"))


def _places(config: pytest.Config, folder: Path) -> list[Path]:
    """Return the places of tests: those that pytest has found, or else those that were typed, or else its own."""

    def place_of(argument: object) -> Path:
        return (config.invocation_params.dir / str(argument).split("::")[0]).resolve()

    if parsed := getattr(config, "args", None):  # Empty until then.
        return [place_of(each) for each in parsed]
    typed = list(map(str, config.invocation_params.args))
    places = [
        place_of(each)
        for before, each in pairwise(["", *typed])
        if folder in (place_of(each), *place_of(each).parents)
        or (not (each.startswith("-") or before in _TAKING_PATHS) and place_of(each).exists())
    ]
    default = [config.rootpath / each for each in config.getini("testpaths")] or [config.rootpath]
    return places or [place.resolve() for place in default]


def expect_own(config: pytest.Config) -> None:
    """Raise `UsageError` when pytest has found its root by the path behind one of our options, and by no other."""
    given = list(map(str, config.invocation_params.args))
    together = joined(given)
    if together == given or (found := _found_without(config, given)) in {None, (config.rootpath, config.inipath)}:
        return
    changed = " ".join(argument for argument in together if argument not in given)
    raise pytest.UsageError(
        f"the root directory would be {config.rootpath}, which pytest took from the path behind an option, not that of "
        f"the tests, {found[0] if found else ''}; join them by an equals sign: {changed}"
    )


def _found_without(config: pytest.Config, given: Sequence[str]) -> tuple[object, object] | None:
    """Return root directory and configuration file as without the values of our options; None where the user says."""
    from _pytest.config.findpaths import determine_setup

    known = config.known_args_namespace
    if known.rootdir or known.inifilename:
        return None
    values = paths_behind(given)
    places = [str(place) for place in known.file_or_dir if str(place) in given and str(place) not in values]
    how: dict[str, Any] = {
        "inifile": None,
        "args": places,
        "rootdir_cmd_arg": None,
        "invocation_dir": config.invocation_params.dir,
    }
    try:
        found = determine_setup(override_ini=None, **how)
    except TypeError:  # Before pytest 8.4.
        found = determine_setup(**how)
    return found[0], found[1]
