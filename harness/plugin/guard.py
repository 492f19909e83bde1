"""The guard: a plugin of its own, which refuses a gate run where `harness.plugin` is switched off."""

from __future__ import annotations

import pytest

from harness.base.codes import Code
from harness.plugin import __name__ as plugin
from harness.plugin import refuse_to_start


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """End a gate run with 4 if an option leaves out the plugin that judges."""
    config = pluginmanager.get_plugin("pytestconfig")
    if pluginmanager.is_blocked(plugin) and isinstance(config, pytest.Config):
        why = f"{plugin} is switched off (-p no:{plugin}); the gate needs it, leave that out"
        refuse_to_start(config, f"[{Code.PYTEST}] {why}")
