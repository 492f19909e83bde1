"""The gate's options on pytest's command line."""

from __future__ import annotations

import pytest

from harness.base.errors import InputError
from harness.base.settings import add_settings, told, values_in
from harness.checks.roles import ROLES
from harness.plugin.detection import may_be_gate_run
from harness.run.execute import taken_over
from harness.run.request import RunRequest
from harness.run.settings import SETTINGS, is_bare, option_of_pytest


def add_options(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the gate's options, one group.

    Those whose names are common words only where there is a check: another project, which has this package in its
    environment for some reason, may have options of these names itself, and pytest ends when two plugins do.
    """
    plain = ", ".join(f"--{role}" for role in ROLES)
    about = f"{plain} and --checks are known where stress_tests/ has a check, or one is named"
    group = parser.getgroup("stress harness", f"model quality gate for image classifiers ({about})")
    known = [setting for name, setting in SETTINGS.items() if may_be_gate_run(config) or not is_bare(name)]
    add_settings(group.addoption, known, option_of_pytest)


def request_of_config(config: pytest.Config) -> RunRequest:
    """Return what the options ask for; raises `UsageError` for one that is none."""
    try:
        request = RunRequest.of(values_in(config.option), root=config.rootpath)
        request.expect_sound()
    except InputError as error:
        raise pytest.UsageError(told(error, option_of_pytest)) from None
    return taken_over(request)
