"""The outer process of a run: pytest as the user called it, in place of which an inner process runs the tests."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from harness.base.errors import InputError
from harness.base.files import holds_any
from harness.plugin.options import reports_of_config, request_of_config
from harness.plugin.place import Caller, caller_of, handover_to
from harness.plugin.refusing import BEGUN

if TYPE_CHECKING:
    from pathlib import Path

    from harness.run.inner import Launch
    from harness.run.request import RunRequest


class Outer:
    """A plugin that runs an inner process in place of pytest's own work."""

    def __init__(
        self, caller: Caller | None, read: RunRequest | InputError, reports: Path, launch: Launch
    ) -> None:
        self._caller, self._read, self._reports, self._launch = caller, read, reports, launch

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Run the gate in an inner process, and return the exit status in its record."""
        from harness.report.owner import judge

        config.stash[BEGUN] = True
        if (capture := config.pluginmanager.getplugin("capturemanager")) is not None:
            capture.suspend_global_capture(
                in_=True
            )  # A debugger of the inner process reads the terminal.

        result = judge(self._request, self._launch, reports=self._reports, in_terminal=True)
        if self._caller is not None:
            self._caller.result = result
        return result.exit_status

    def _request(self) -> RunRequest:
        if isinstance(self._read, InputError):
            raise self._read
        return self._read


def starts_inner(config: pytest.Config) -> bool:
    """Return whether an inner process runs the tests of a run that judges.

    The inner process itself has none, nor has a worker of it, nor a run that one of its tests starts: a process before
    them holds a folder of reports. Objects that a caller of `pytest.main` gives as plugins cannot go to another
    process, so pytest runs here.
    """
    if handover_to(config) is not None or any(
        map(_is_object, config.invocation_params.plugins or ())
    ):
        return False
    return not holds_any()


def _is_object(plugin: object) -> bool:
    return not isinstance(plugin, str | Caller)


def become_outer(config: pytest.Config, args: list[str]) -> None:
    """Have an inner process run the tests: this one loads no `conftest.py`, and parses no options of one."""
    from harness.run.inner import PLUGIN, Launch

    caller = caller_of(config)
    typed = tuple(map(str, config.invocation_params.args)) if caller is None else caller.arguments
    read: (
        RunRequest | InputError
    )  # An error is raised again once the folder is taken, whose reports then say it.
    try:
        read = request_of_config(config)
    except InputError as error:
        read = error
    launch = Launch(typed, ("pytest", *typed), sys.path[0] if caller is None else None)
    config.pluginmanager.register(
        Outer(caller, read, reports_of_config(config), launch), "harness.outer"
    )
    config.known_args_namespace.noconftest = True
    args[:] = PLUGIN
