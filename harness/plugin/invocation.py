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
_PRINTING = ("help", "version", "markers", "cacheshow")
"""Options with which pytest prints something and collects no tests."""
_COLLECTING = ("collectonly", "showfixtures", "show_fixtures_per_test")
"""Options with which pytest collects tests and runs none."""
_MAX_BYTES = 1 << 24


class Caller:
    """A plugin of the command `gate`, which calls pytest and takes the result of the run.

    `arguments` are those that the user typed.
    """

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.result: RunResult | None = None
        self.is_listing_or_plan: bool | None = None
        """True for a run that judges nothing; None until pytest has loaded its plugins."""
        self.refused = False
        """True if the reports refuse a run that pytest has not begun."""

    def pytest_load_initial_conftests(self, early_config: pytest.Config) -> None:
        """Note whether the options ask for a verdict."""
        self.is_listing_or_plan = (
            _prints_only(early_config) or only_collects(early_config) or plans(early_config)
        )


def caller_of(config: pytest.Config) -> Caller | None:
    """Return the command that calls pytest; None where a user does."""
    return _plugin_of_kind(config, Caller)


def is_gate_run(config: pytest.Config) -> bool:
    """Return whether this is a run of the gate, or a plan or listing of it.

    It is one if a candidate or a checks file is named, or if a place of tests lies in the folder of
    the gate or holds that folder.
    """
    if _prints_only(config):
        return False
    if _names_gate(config):
        return True

    folder = gate_folder(config)
    is_touched = any(
        place.is_relative_to(folder) or folder.is_relative_to(place)
        for place in _places_of_tests(config)
    )
    return is_touched and holds_gate(folder)


def _names_gate(config: pytest.Config) -> bool:
    """Return whether the options or the outer process name a candidate or a checks file."""
    request = handed_request(config)
    if request.get("checks") or "candidate" in request.get("roles", {}):
        return True
    options = options_of(config)
    return bool(
        getattr(options, "stress_checks", None) or getattr(options, "stress_candidate", None)
    )


def expect_own_root(config: pytest.Config) -> None:
    """Raise `UsageError` if pytest took its root directory from the path behind an option.

    pytest looks for it before it knows our options. The checks file of another project would then
    judge.
    """
    options = config.known_args_namespace
    if options.rootdir or options.inifilename:
        return
    places = _places_of_tests(config)
    if any(place.is_relative_to(config.rootpath) for place in places):
        return
    raise pytest.UsageError(
        f"[{Code.USAGE}] pytest took its root directory, {config.rootpath}, from the path behind "
        f"an option, not from the tests, {places[0]}. Join option and path by an equals sign, "
        "such as --candidate=MODEL"
    )


def judges(config: pytest.Config) -> bool:
    """Return whether this is a run with a verdict, or with measurements for calibration."""
    return is_gate_run(config) and not only_collects(config) and not plans(config)


def plans(config: pytest.Config) -> bool:
    """Return whether a plan of the run is asked for, or other work in its place."""
    if getattr(options_of(config), "stress_plan", False):
        return True
    return bool(handed_request(config).get("plan"))


def only_collects(config: pytest.Config) -> bool:
    """Return whether pytest collects tests and lists something of them."""
    return any(getattr(options_of(config), name, None) for name in _COLLECTING)


def _prints_only(config: pytest.Config) -> bool:
    return any(getattr(options_of(config), name, None) for name in _PRINTING)


def options_of(config: pytest.Config) -> Any:
    """Return the options that pytest has parsed: all, or those known before `conftest.py`."""
    # pytest fills `args` when it parses the whole command line, after it has loaded `conftest.py`.
    # Until then, `option` has only defaults.
    if config.args:
        return config.option
    return config.known_args_namespace


def handover_to(config: pytest.Config) -> Handover | None:
    """Return the handover of the outer process of this run; None in a process without one."""
    return _plugin_of_kind(config, Handover)


def _plugin_of_kind(config: pytest.Config, kind: type[Plugin]) -> Plugin | None:
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, kind):
            return plugin
    return None


def handed_request(config: pytest.Config) -> dict[str, Any]:
    """Return the request of the outer process, as JSON; empty in a process without one."""
    handover = handover_to(config)
    return dict(handover.content["request"]) if handover else {}


def gate_folder(config: pytest.Config) -> Path:
    """Return the folder that a project has its gate in."""
    return (config.rootpath / "stress_tests").resolve()


def holds_gate(folder: Path) -> bool:
    """Return whether the folder has stress tests of this harness, not another's of that name."""
    return (folder / "checks.toml").exists() or any(map(_names_plugin, folder.glob("**/*.py")))


def _names_plugin(file: Path) -> bool:
    try:
        return b"harness.plugin" in read_regular(file, max_bytes=_MAX_BYTES)
    except OSError:
        return False


def _places_of_tests(config: pytest.Config) -> list[Path]:
    """Return the named places of tests, or else those of the configuration."""
    folder = config.invocation_params.dir
    arguments = config.args or config.known_args_namespace.file_or_dir
    if arguments:
        return [(folder / str(argument).partition("::")[0]).resolve() for argument in arguments]

    configured = config.getini("testpaths") if folder == config.rootpath else []
    if configured:
        return [(config.rootpath / place).resolve() for place in configured]
    return [folder.resolve()]
