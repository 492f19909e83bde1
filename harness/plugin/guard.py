"""The guard: a plugin of its own, which refuses a gate run where `harness.plugin` is switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.plugin import __name__ as plugin
from harness.plugin import refuse_to_start

if TYPE_CHECKING:
    import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """End a gate run with 4 if an option leaves out the plugin that judges."""
    if pluginmanager.is_blocked(plugin):
        refuse_to_start(
            pluginmanager,
            f"[{Code.PYTEST}] {plugin} is switched off (-p no:{plugin}); the gate needs it, leave that out",
        )
