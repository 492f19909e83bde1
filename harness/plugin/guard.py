"""The guard: a plugin of its own, which refuses a gate run where `harness.plugin` is switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.plugin import __name__ as plugin
from harness.plugin import refuse_without

if TYPE_CHECKING:
    import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """End a gate run with 4 if an option leaves out the plugin that judges."""
    if pluginmanager.is_blocked(plugin):
        refuse_without(pluginmanager, plugin)
