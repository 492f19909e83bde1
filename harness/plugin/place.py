"""The place of a run: the gate that it is a run of, and its reports; this module needs no package besides pytest."""

from __future__ import annotations

import os
import shlex
import tomllib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from harness.base.errors import end_copy, value_behind, values_behind, without_secrets
from harness.base.files import read_regular
from harness.report.refusal import ROLES
from harness.run.handover import Handover

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_NAMING = ("candidate", "checks")
"""Options that make a run one of the gate, wherever it is."""
_TAKING_VALUES = {f"--{name}" for name in ("stress-reports", "stress-set", *ROLES)}
"""Options of this plugin that are followed by a value, which then is no place of tests."""
_LISTING = ("help", "version", "markers", "cacheshow")
"""Options of pytest that print something in place of a run."""
_COLLECTING = ("collectonly", "showfixtures", "show_fixtures_per_test")
"""Options of pytest that collect tests and run none."""
_PLAN = "--stress-plan"
_MAX_BYTES = 1 << 24


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a gate run: by a setting, or since a place of tests lies in the gate's folder or holds it.

    Before pytest has parsed its command line, which may be wrong, the typed line decides.
    """
    if _asks(config, *_LISTING):
        return False
    if _is_named(config):
        return True
    folder = _stress_tests(config)
    touched = any(folder in (place, *place.parents) or place in folder.parents for place in _places(config))
    return touched and _holds_gate(folder)


def only_collects(config: pytest.Config) -> bool:
    """Return whether pytest is to collect tests and list something of them."""
    return _asks(config, *_COLLECTING)


def may_be_gate_run(config: pytest.Config) -> bool:
    """Return whether the project has a gate, or the command line speaks of one."""
    return _is_named(config) or _holds_gate(_stress_tests(config))


def reports_named(config: pytest.Config) -> Path | None:
    """Return the folder of the reports of a run that judges, before all options are known.

    None for listings, a plan and runs of other tests.
    """
    if only_collects(config) or not (is_gate_run(config) and _holds_gate(_stress_tests(config))):
        return None
    return None if asks_for_plan(config) else reports_folder(config)


def asks_for_plan(config: pytest.Config) -> bool:
    """Return whether a plan of the run is asked for; it leaves the reports of earlier runs alone."""
    given = [each for line in lines_of(config) for each in line]
    parsed = getattr(config.option, "stress_plan", False)  # Also from a file behind @.
    return bool(parsed or _PLAN in given or handed_request(config).get("plan"))


def reports_folder(config: pytest.Config) -> Path:
    """Return the folder that reports go to, before other options are looked at."""
    added, ini, typed = lines_of(config)
    named = value_behind(typed, "--stress-reports") or handed_request(config).get("reports")
    named = named or value_behind([*ini, *added], "--stress-reports") or getattr(config.option, "stress_reports", None)
    return config.rootpath / (named or "reports")


def waits_for_others(config: pytest.Config) -> bool:
    """Return whether the run waits for another that has the folder of its reports; the setting `no_wait` forbids it."""
    typed = [pair for line in lines_of(config) for pair in values_behind(line, "--stress-set")]
    given = [value for name, _, value in (pair.partition("=") for pair in typed) if name == "no_wait"]
    if given:
        return given[-1] != "true"
    try:
        path = _stress_tests(config) / "checks.toml"
        table = dict(tomllib.loads(read_regular(path, max_bytes=_MAX_BYTES).decode())["gate"])
    except (OSError, ValueError, LookupError, TypeError):  # A wrong table ends the run later, in one sentence.
        table = {}
    return (table | handed_request(config)).get("no_wait") is not True


def handover_to(config: pytest.Config) -> Handover:
    """Return what the process that started this run hands over to it; a copy of this process ends here."""
    given = (each for each in config.pluginmanager.get_plugins() if isinstance(each, Handover))
    found = next(given, Handover())
    end_copy(found.process)
    return found


def handed_request(config: pytest.Config) -> dict[str, Any]:
    """Return what the process that started this run asks for; empty without one."""
    return dict(handover_to(config).content.get("request", {}))


def command_of(config: pytest.Config) -> list[str]:
    """Return how a run was started, for everyone to read."""
    handed = handover_to(config).content.get("command")
    return [without_secrets(str(each)) for each in handed or ["pytest", *config.invocation_params.args]]


def lines_of(config: pytest.Config) -> tuple[list[str], list[str], list[str]]:
    """Return the options that the environment adds, those of the configuration, and those that were typed."""
    try:
        added = shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:  # An open quotation, which pytest refuses.
        added = []
    return added, list(map(str, config.getini("addopts"))), list(map(str, config.invocation_params.args))


def _asks(config: pytest.Config, *names: str) -> bool:
    """Return whether any of these options of pytest itself is given; it knows them before it loads plugins."""
    return any(getattr(config.known_args_namespace, name, None) for name in names)


def _is_named(config: pytest.Config) -> bool:
    options = {each.partition("=")[0] for line in lines_of(config) for each in line}
    asked = handed_request(config)
    options |= {f"--{name}" for name in (*asked, *asked.get("roles", ()))}
    return any(f"--{name}" in options or getattr(config.option, f"stress_{name}", None) for name in _NAMING)


def _stress_tests(config: pytest.Config) -> Path:
    return (config.rootpath / "stress_tests").resolve()


def _holds_gate(folder: Path) -> bool:
    """Return whether stress tests of this harness are in the folder; another's may be called so, too."""
    return (folder / "checks.toml").exists() or any(map(_names_plugin, folder.glob("**/*.py")))


def _names_plugin(file: Path) -> bool:
    try:
        return b"harness.plugin" in read_regular(file, max_bytes=_MAX_BYTES)
    except OSError:
        return False


def _places(config: pytest.Config) -> list[Path]:
    """Return the places of tests: those that pytest has found, or else those that were typed, or else its own."""

    def place_of(argument: str) -> Path:
        return (config.invocation_params.dir / argument.split("::", maxsplit=1)[0]).resolve()

    if parsed := getattr(config, "args", None):  # Empty until then.
        return [place_of(str(each)) for each in parsed]
    behind = {after for before, after in pairwise(map(str, config.invocation_params.args)) if before in _TAKING_VALUES}
    typed = [each for each in config.known_args_namespace.file_or_dir if each not in behind]
    places = [place for place in map(place_of, typed) if place.exists() or place.parent.exists()]
    default = [config.rootpath / each for each in config.getini("testpaths")] or [config.rootpath]
    return places or [place.resolve() for place in default]
