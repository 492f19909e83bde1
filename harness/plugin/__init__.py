"""The pytest plugin. A run that judges has an outer and an inner process; see the page on the promise of a verdict.

The outer process is pytest as the user called it. It starts the inner one, which runs the tests, and owns the verdict.
This module and those that it imports at once need no package besides pytest.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import lacking
from harness.plugin.place import caller_of, expect_own_root, handover_to, is_gate_run, judges, plans
from harness.plugin.refusing import (
    BEGUN,
    command_of,
    reason_of,
    refusing_record,
    reports_typed,
    status_of,
)
from harness.report.refusal import refuse_unbegun

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.checks import Key

MODULES = tuple(
    f"harness.plugin.{name}"
    for name in ("hooks", "fixtures", "planning", "parametrization", "packaged", "verdicts")
)
"""The modules with hooks and fixtures of a process that runs or collects tests."""


def check(family: str, *keys: Key[Any], metric: str = "") -> pytest.MarkDecorator:
    """Mark a stress test: it runs once per row of this family, and metric, in the checks file.

    `keys` are those that its checks have besides those of all checks.
    """
    return pytest.mark.stress_check(family, *keys, metric=metric)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the gate's options; where a package is missing, a run of the gate ends with 4, and another goes on."""
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    if not hasattr(config, "known_args_namespace"):
        raise pytest.UsageError(
            "load the plugin by the option -p harness.plugin, not by `plugins` of pytest.main"
        )
    imports.begin()
    config.add_cleanup(partial(_end_unbegun, config))
    try:
        import_module("harness.plugin.options").add_options(parser, config)
    except Exception as error:  # A package that is missing or broken raises anything.
        if is_gate_run(config):
            raise pytest.UsageError(coded(Code.PACKAGE, lacking(error))) from None


def _end_unbegun(config: pytest.Config) -> None:
    """Have the reports say why pytest ends before a run begins: a wrong option, a `conftest.py`, or another plugin."""
    error = sys.exception()
    if error is None or BEGUN in config.stash:
        return
    if (handover := handover_to(config)) is not None:
        why = reason_of(error)
        with suppress(OSError):
            handover.leave(refusing_record(config, why, status=status_of(error)))
        if not _pytest_says(error):
            print(f"ERROR: {why}", file=sys.stderr)
    elif judges(config):
        why = reason_of(error)
        refuse_unbegun(reports_typed(config), command_of(config), why, wait=False)
        if (caller := caller_of(config)) is not None:
            caller.refused = True
        if isinstance(error, pytest.UsageError):
            error.args = (why,)
        elif not isinstance(error, KeyboardInterrupt) and not _pytest_says(error):
            raise pytest.UsageError(
                why
            )  # pytest would end with 1 or 3, or as a call of `sys.exit` says.


def _pytest_says(error: BaseException) -> bool:
    """Return whether pytest itself says what is wrong and ends with 4; its class for `conftest.py` is private."""
    return isinstance(error, pytest.UsageError) or type(error).__name__ == "ConftestImportFailure"


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Have an inner process run the tests of a run that judges, before this process loads a `conftest.py`."""
    if judges(early_config):
        try:
            expect_own_root(early_config)
        except pytest.UsageError:
            early_config.stash[BEGUN] = True  # The reports there are another project's.
            raise
        from harness.plugin.outer import become_outer, starts_inner

        if starts_inner(early_config):
            become_outer(early_config, args)
            return
    # Before any `conftest.py`, whose wrappers of hooks are then around ours. A hook of this name in a module
    # that is loaded now would come too late.
    _load_modules(early_config)
    if (packaged := early_config.pluginmanager.get_plugin("harness.plugin.packaged")) is not None:
        packaged.name_folders(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load the modules with hooks and fixtures where only a `conftest.py` has loaded this one."""
    _load_modules(config)


def _load_modules(config: pytest.Config) -> None:
    """Load the modules with hooks and fixtures; where a package is missing, as `pytest_addoption` does."""
    try:
        for module in map(import_module, MODULES):
            if not config.pluginmanager.is_registered(module):
                config.pluginmanager.register(module, module.__name__)
    except pytest.UsageError:
        raise
    except Exception as error:
        if is_gate_run(config):
            raise pytest.UsageError(coded(Code.PACKAGE, lacking(error))) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Leave the record of a run that judges where its verdict is decided, whatever ends pytest's work here."""
    if hasattr(config, "workerinput") or config.pluginmanager.has_plugin("harness.outer"):
        return (yield)
    if plans(config):
        _stay_in_one_process(config)
    handover = handover_to(config)
    if handover is None and not judges(config):
        return (yield)
    config.stash[BEGUN] = True
    from harness.plugin.ending import ended_in_place, ended_inner

    return (yield from (ended_inner(config, handover) if handover else ended_in_place(config)))


def _stay_in_one_process(config: pytest.Config) -> None:
    """Start no workers of pytest-xdist, which would run nothing of a plan."""
    if config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []
