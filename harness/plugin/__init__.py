"""The pytest plugin: it loads the modules that hold the hooks, and refuses a gate run where one cannot be loaded.

This module and those that it imports at once need no package besides pytest.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.codes import Code, coded
from harness.base.errors import lacking, printable
from harness.plugin.claim import claim_early
from harness.plugin.place import reports_named
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from harness.checks import Key

MODULES = tuple(
    f"harness.plugin.{name}" for name in ("hooks", "fixtures", "planning", "parametrization", "packaged", "verdicts")
)
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
    """Claim the reports of a run that judges, and load the modules with the hooks; a run that lacks one ends with 4."""
    _sessions.append(True)
    config = pluginmanager.get_plugin("pytestconfig")
    assert isinstance(config, pytest.Config)
    claim_early(config)
    try:
        for module in map(import_module, MODULES):
            pluginmanager.register(module, str(id(module)))  # No option can leave out a plugin of this name.
    except pytest.UsageError:
        raise
    except Exception as error:  # A package that is missing or broken raises anything.
        refuse_to_start(config, coded(Code.PACKAGE, lacking(error)))


def refuse_to_start(config: pytest.Config, reason: str) -> None:
    """End a gate run, with a reason for its reports; another run goes on without the plugin."""
    if reports_named(config) is not None:
        claim_early(config)
        raise pytest.UsageError(printable(reason))
