"""The pytest plugin. A run that judges has an outer and an inner process.

The outer process is pytest as the user called it. It starts the inner one, which runs the tests,
and owns the verdict; see docs/promise.md. This module and those that it imports at once need no
package besides pytest.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from harness.base import imports
from harness.base.codes import Code, coded
from harness.base.errors import InputError, lacking, reason
from harness.plugin.early_end import refuse_early_end
from harness.plugin.invocation import expect_own_root, handover_to, is_gate_run, judges, plans
from harness.plugin.refusals import BEGUN

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
    """Add the gate's options.

    Where a package is missing, a run of the gate ends with 4, and any other goes on without it.
    """
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    if not hasattr(config, "known_args_namespace"):
        raise pytest.UsageError(
            "load the plugin by the option -p harness.plugin, not by `plugins` of pytest.main"
        )
    imports.begin()
    config.add_cleanup(partial(refuse_early_end, config))
    try:
        import_module("harness.plugin.options").add_options(parser, config)
    except Exception as error:  # A package that is missing or broken raises anything.
        if is_gate_run(config):
            raise pytest.UsageError(_unusable(error)) from None


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Have an inner process run the tests of a run that judges, before any `conftest.py`."""
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
    # Before any `conftest.py`, whose wrappers of hooks are then around ours. A hook of this name in
    # a module that is loaded now would come too late.
    _load_modules(early_config)
    packaged = early_config.pluginmanager.get_plugin("harness.plugin.packaged")
    if packaged is not None:
        packaged.name_folders(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Load the modules with hooks and fixtures where only a `conftest.py` has loaded this one."""
    _load_modules(config)


def _load_modules(config: pytest.Config) -> None:
    """Load the modules with hooks and fixtures.

    Where a package is missing, a run of the gate ends with 4, and any other goes on without it.
    """
    try:
        for name in MODULES:
            module = import_module(name)
            if not config.pluginmanager.is_registered(module):
                config.pluginmanager.register(module, name)
    except pytest.UsageError:
        raise
    except Exception as error:
        if is_gate_run(config):
            raise pytest.UsageError(_unusable(error)) from None


def _unusable(error: Exception) -> str:
    """Return why modules of the plugin cannot be imported: a feature, or else a package."""
    if isinstance(error, InputError):
        return reason(error)
    return coded(Code.PACKAGE, lacking(error))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """Leave the record of a run that judges for the owner of its verdict, whatever ends pytest."""
    if hasattr(config, "workerinput") or config.pluginmanager.has_plugin("harness.outer"):
        return (yield)
    if plans(config):
        _stay_in_one_process(config)
    handover = handover_to(config)
    if handover is None and not judges(config):
        return (yield)

    config.stash[BEGUN] = True
    from harness.plugin.run_record import leave_record, own_verdict

    if handover is None:
        return (yield from own_verdict(config))
    return (yield from leave_record(config, handover))


def _stay_in_one_process(config: pytest.Config) -> None:
    """Start no workers of pytest-xdist, which would run nothing of a plan."""
    if config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses = None
        config.option.dist = "no"
        config.option.tx = []
