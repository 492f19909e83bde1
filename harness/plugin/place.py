"""Which calls of pytest are runs of the gate; this module needs no package besides pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from harness.base.codes import Code
from harness.base.files import read_regular
from harness.run.handover import Handover

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.result import RunResult

Plugin = TypeVar("Plugin")
_LISTING = ("help", "version", "markers", "cacheshow")
"""Options of pytest that print something in place of a run."""
_COLLECTING = ("collectonly", "showfixtures", "show_fixtures_per_test")
"""Options of pytest that collect tests and run none."""
_MAX_BYTES = 1 << 24


class Caller:
    """A plugin of the command `gate`, which calls pytest and takes the result of the run.

    `arguments` are those that the user typed.
    """

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.result: RunResult | None = None
        self.only_looks: bool | None = None
        """True for a plan or a listing, which judges nothing; None until pytest has loaded its plugins."""
        self.refused = False
        """True if the reports refuse a run that pytest has not begun."""

    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Note what is asked for."""
        self.only_looks = only_looks(early_config)


def caller_of(config: pytest.Config) -> Caller | None:
    """Return the command that calls pytest; None where a user does."""
    return _plugin_of_kind(config, Caller)


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a run of the gate, or a plan or listing of it.

    It is one if a candidate or a checks file is named, or if a place of tests lies in the folder of the gate or holds
    that folder.
    """
    options = options_of(config)
    if _lists(options):
        return False
    asked = handed_request(config)
    if asked.get("checks") or "candidate" in asked.get("roles", {}):
        return True
    if getattr(options, "stress_checks", None) or getattr(options, "stress_candidate", None):
        return True
    folder = stress_tests_of(config)
    touched = any(
        folder in (place, *place.parents) or place in folder.parents for place in _places(config)
    )
    return touched and holds_gate(folder)


def expect_own_root(config: pytest.Config) -> None:
    """Raise `UsageError` when pytest has found its root directory by the path behind an option, not by the tests.

    pytest looks for it before it knows our options. The checks file of another project would then judge.
    """
    known = config.known_args_namespace
    places = _places(config)
    if (
        known.rootdir
        or known.inifilename
        or any(place.is_relative_to(config.rootpath) for place in places)
    ):
        return
    raise pytest.UsageError(
        f"[{Code.USAGE}] pytest took its root directory, {config.rootpath}, from the path behind an option, not from "
        f"the tests, {places[0]}. Join option and path by an equals sign, such as --candidate=PATH"
    )


def only_collects(config: pytest.Config) -> bool:
    """Return whether pytest collects tests and lists something of them."""
    return any(getattr(options_of(config), name, None) for name in _COLLECTING)


def only_looks(config: pytest.Config) -> bool:
    """Return whether pytest lists or plans something, in place of a run."""
    return _lists(options_of(config)) or only_collects(config) or plans(config)


def _lists(options: Any) -> bool:
    return any(getattr(options, name, None) for name in _LISTING)


def plans(config: pytest.Config) -> bool:
    """Return whether a plan of the run is asked for, or other work in its place."""
    return bool(
        getattr(options_of(config), "stress_plan", False) or handed_request(config).get("plan")
    )


def judges(config: pytest.Config) -> bool:
    """Return whether this is a run with a verdict, or with measurements for calibration."""
    return is_gate_run(config) and not only_collects(config) and not plans(config)


def options_of(config: pytest.Config) -> Any:
    """Return the options that pytest has parsed: all of them, or before `conftest.py` is loaded those known by then."""
    return config.option if config.args else config.known_args_namespace


def handover_to(config: pytest.Config) -> Handover | None:
    """Return what the outer process of this run has handed over; None in a process without one."""
    return _plugin_of_kind(config, Handover)


def _plugin_of_kind(config: pytest.Config, kind: type[Plugin]) -> Plugin | None:
    return next(
        (plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, kind)), None
    )


def handed_request(config: pytest.Config) -> dict[str, Any]:
    """Return the request of the outer process, as JSON; empty in a process without one."""
    handover = handover_to(config)
    return dict(handover.content["request"]) if handover else {}


def stress_tests_of(config: pytest.Config) -> Path:
    """Return the folder that a project has its gate in."""
    return (config.rootpath / "stress_tests").resolve()


def holds_gate(folder: Path) -> bool:
    """Return whether stress tests of this harness are in the folder; another's may be called so, too."""
    return (folder / "checks.toml").exists() or any(map(_names_plugin, folder.glob("**/*.py")))


def _names_plugin(file: Path) -> bool:
    try:
        return b"harness.plugin" in read_regular(file, max_bytes=_MAX_BYTES)
    except OSError:
        return False


def _places(config: pytest.Config) -> list[Path]:
    """Return the places of tests: those that are named, or else those of the configuration."""
    folder = config.invocation_params.dir
    named = config.args or config.known_args_namespace.file_or_dir
    if named:
        return [(folder / str(argument).partition("::")[0]).resolve() for argument in named]
    if folder == config.rootpath and (places := config.getini("testpaths")):
        return [(config.rootpath / place).resolve() for place in places]
    return [folder.resolve()]
