"""The outer process of a run: pytest as the user called it, which starts an inner process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import InputError
from harness.base.files import holds_any
from harness.plugin.invocation import Caller, caller_of, handover_to
from harness.plugin.options import reports_of_config, request_of_config
from harness.plugin.refusals import BEGUN

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.inner import Launch
    from harness.run.request import RunRequest


class Outer:
    """A plugin that runs an inner process in place of pytest's own work.

    `request` may be the error of a request that cannot be made. The reports then say it, once their
    folder is taken.
    """

    def __init__(
        self,
        caller: Caller | None,
        request: RunRequest | InputError,
        reports: Path,
        launch: Launch,
    ) -> None:
        self._caller = caller
        self._request = request
        self._reports = reports
        self._launch = launch

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Run the gate in an inner process, and return the exit status in its record."""
        from harness.report.owner import judge

        config.stash[BEGUN] = True
        capture = config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            # A debugger of the inner process reads the terminal.
            capture.suspend_global_capture(in_=True)

        result = judge(self._read, self._launch, reports=self._reports, in_terminal=True)
        if self._caller is not None:
            self._caller.result = result
        return result.exit_status

    def _read(self) -> RunRequest:
        if isinstance(self._request, InputError):
            raise self._request
        return self._request


def starts_inner(config: pytest.Config) -> bool:
    """Return whether an inner process runs the tests of a run that judges.

    The inner process itself has none, nor has a worker of it, nor a run that one of its tests
    starts: a process before them holds a folder of reports. Objects that a caller of `pytest.main`
    gives as plugins cannot go to another process, so pytest runs here.
    """
    if handover_to(config) is not None or holds_any():
        return False
    plugins = config.invocation_params.plugins or ()
    return all(isinstance(plugin, str | Caller) for plugin in plugins)


def become_outer(config: pytest.Config, args: list[str]) -> None:
    """Have an inner process run the tests; this one loads no `conftest.py`."""
    from harness.run.inner import PLUGIN, Launch

    caller = caller_of(config)
    if caller is None:
        arguments = tuple(map(str, config.invocation_params.args))
        search_path = sys.path[0]
    else:
        arguments = caller.arguments
        search_path = None
    launch = Launch(arguments, ("pytest", *arguments), search_path)

    request: RunRequest | InputError
    try:
        request = request_of_config(config)
    except InputError as error:
        request = error

    outer = Outer(caller, request, reports_of_config(config), launch)
    config.pluginmanager.register(outer, "harness.outer")
    config.known_args_namespace.noconftest = True
    args[:] = PLUGIN
