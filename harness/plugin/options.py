"""The gate's options on pytest's command line, and the request that they make.

No other module reads that line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError, told
from harness.checks.roles import ROLES
from harness.plugin.invocation import (
    gate_folder,
    handed_request,
    holds_gate,
    is_gate_run,
    options_of,
)
from harness.plugin.refusals import typed_arguments
from harness.run import request
from harness.run.request import RunRequest
from harness.run.settings import option_of_pytest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

REQUEST = "stress_request"
"""The name under which the request of the run travels to the workers."""
_NAMING_A_GATE = ("--candidate", "--checks")


def add_options(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the gate's options, one group.

    Options with a common name are added only in a project with a gate, and where the command line
    names one. Another project with this package in its environment may define such options itself,
    and pytest ends if two plugins define one.
    """
    common_names = ", ".join(f"--{role}" for role in ROLES)
    where = (
        f"{common_names} and --checks exist only where stress_tests/ has a gate, or one is named"
    )
    group = parser.getgroup("stress harness", f"model quality gate for image classifiers ({where})")
    bare = holds_gate(gate_folder(config)) or _names_a_gate(config) or bool(handed_request(config))
    request.add_options(group.addoption, bare=bare)


def _names_a_gate(config: pytest.Config) -> bool:
    """Return whether the typed arguments name a candidate or a checks file.

    pytest has not parsed these options yet, since it is about to learn of them.
    """
    return any(argument.partition("=")[0] in _NAMING_A_GATE for argument in typed_arguments(config))


def reports_of_config(config: pytest.Config) -> Path:
    """Return the folder that reports go to."""
    return config.rootpath / (getattr(options_of(config), "stress_reports", None) or "reports")


def request_of_config(config: pytest.Config) -> RunRequest:
    """Return what the options and the project ask for; raises `InputError` for an invalid value.

    The request of the outer process wins over the configuration.
    """
    if hasattr(config, "workerinput"):
        return RunRequest(**config.workerinput[REQUEST])
    try:
        of_project = request.own_settings(config.rootpath) if is_gate_run(config) else {}
        of_line = request.line_values(options_of(config))
        of_outer = RunRequest(**handed_request(config)).given
        run_request = RunRequest.of(of_project, of_line, of_outer, root=config.rootpath)
        run_request.expect_sound()
    except InputError as error:
        raise InputError(told(error, option_of_pytest), code=error.code) from None
    return run_request
