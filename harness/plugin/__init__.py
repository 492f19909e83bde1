"""The pytest plugin: it loads the modules that hold the hooks, and refuses a gate run where one cannot be loaded.

This module and those that it imports at once need no package besides pytest.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.codes import Code, coded
from harness.base.errors import lacking, printable, without_secrets
from harness.plugin.place import handover_to, reports_named
from harness.plugin.printing import stand_in
from harness.report.files import forget, write_refusal
from harness.report.refusal import Refusal
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from harness.checks import Key

MODULES = tuple(f"harness.plugin.{name}" for name in ("hooks", "fixtures", "planning", "parametrization", "verdicts"))
"""The modules with the hooks and fixtures; a run without one of them is none of the gate."""
_sessions: list[bool] = []
"""True if pytest has registered this module as a plugin; stress tests are void otherwise."""


def check(family: str, *keys: Key[Any], metric: str = "") -> pytest.MarkDecorator:
    """Mark a stress test: it runs once per row of this family, and metric, in the checks file.

    `keys` are those that its checks have besides those of all checks. In a run of pytest that has switched this plugin
    off the run ends, with 4.
    """
    if "PYTEST_VERSION" in os.environ and not _sessions:
        pytest.exit(
            f"[{Code.PYTEST}] stress tests need the plugin harness.plugin, which is switched off "
            "(-p no:harness.plugin) or not installed; nothing was judged",
            returncode=NOT_JUDGED,
        )
    return pytest.mark.stress_check(family, *keys, metric=metric)


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the modules with the hooks; a gate run that lacks one ends with 4, in one sentence."""
    _sessions.append(True)
    stand_in()
    try:
        for module in MODULES:
            pluginmanager.import_plugin(module)
    except pytest.UsageError:
        raise
    except Exception as error:  # A package that is missing or broken raises anything.
        refuse_to_start(pluginmanager, coded(Code.PACKAGE, lacking(error)))
    if off := [module for module in MODULES if pluginmanager.is_blocked(module)]:
        refuse_without(pluginmanager, off[0])


def refuse_without(pluginmanager: pytest.PytestPluginManager, plugin: str) -> None:
    """Refuse a run of the gate in which this plugin is switched off."""
    why = f"{plugin} is switched off (-p no:{plugin}); the gate needs it, leave that out"
    refuse_to_start(pluginmanager, coded(Code.PYTEST, why))


def refuse_to_start(pluginmanager: pytest.PytestPluginManager, reason: str) -> None:
    """End a gate run with reports that say why; another run goes on without the plugin."""
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    reports = reports_named(config)
    if reports is None:
        return
    command = ["pytest", *(without_secrets(str(argument)) for argument in config.invocation_params.args)]
    forget(reports)
    write_refusal(Refusal([printable(reason)], command, handover_to(config).content.get("run_id", "")), reports)
    raise pytest.UsageError(reason)
