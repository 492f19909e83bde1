"""The gate's options on pytest's command line, and the request and the project that they name."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.codes import Code, coded
from harness.base.errors import InputError, told, values_behind
from harness.checks.roles import ROLES
from harness.plugin.place import handed_request, is_gate_run, lines_of, may_be_gate_run
from harness.run import request
from harness.run.request import RunRequest, joined, paths_behind
from harness.run.settings import ON_LINE, SET, option_of_pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ASKED = "stress_asked"
"""The name under which what another process asks of the run travels to the workers."""


def add_options(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the gate's options, one group; raises `UsageError` for one that is a setting of the project now.

    Options with a common name are added only in a project with a gate. Another project with this package in its
    environment may define such options itself, and pytest ends if two plugins define one.
    """
    plain = ", ".join(f"--{role}" for role in ROLES)
    about = f"{plain} and --checks exist only where stress_tests/ has a gate, or one is named"
    group = parser.getgroup("stress harness", f"model quality gate for image classifiers ({about})")
    request.add_options(group.addoption, bare=may_be_gate_run(config))
    places = ("PYTEST_ADDOPTS", config.inipath.name if config.inipath else "", "")
    try:
        for line, place in zip(lines_of(config), places, strict=True):
            request.expect_none_moved(line, place=place)
    except InputError as error:
        raise pytest.UsageError(coded(error.code, str(error))) from None


def request_of_config(config: pytest.Config) -> RunRequest:
    """Return what the options and the project ask for; raises `UsageError` for an option that is none.

    The request of another process wins over the configuration, and the typed line over both.
    """
    if hasattr(config, "workerinput"):
        return RunRequest(**config.workerinput[ASKED])
    try:
        _expect_once(config)
        own = request.own_settings(config.rootpath) if is_gate_run(config) else {}
        handed = handed_request(config)
        typed = request.read_line(lines_of(config)[2])[0] if handed else {}
        given = RunRequest(**handed).given
        made = RunRequest.of(own, request.line_values(config.option), given, typed, root=config.rootpath)
        made.expect_sound()
    except InputError as error:
        raise pytest.UsageError(coded(error.code, told(error, option_of_pytest))) from None
    return made


def _expect_once(config: pytest.Config) -> None:
    """Raise `InputError` for a setting that is given twice in one place; a command line may override configuration."""
    named = [*ROLES, *(name for name, each in ON_LINE.items() if not each.flag)]
    single = {option_of_pytest(name): name for name in named}
    for line in lines_of(config):
        given = list(takewhile(lambda each: each != "--", line))
        options = [each.partition("=")[0] for each in given]
        if twice := next((option for option in options if option in single and options.count(option) > 1), None):
            raise InputError("it is given more than once; leave one of them out", setting=single[twice])
        request.set_values(values_behind(given, option_of_pytest(SET.name)))


def expect_own(config: pytest.Config) -> None:
    """Raise `UsageError` when pytest has found its root by the path behind one of our options, and by no other."""
    given = list(map(str, config.invocation_params.args))
    together = joined(given)
    if together == given or (found := _found_without(config, given)) in {None, (config.rootpath, config.inipath)}:
        return
    changed = " ".join(argument for argument in together if argument not in given)
    raise pytest.UsageError(
        f"[{Code.USAGE}] pytest took its root directory, {config.rootpath}, from the path behind an option, not from "
        f"the tests, {found[0] if found else ''}. Join option and path by an equals sign: {changed}"
    )


def _found_without(config: pytest.Config, given: Sequence[str]) -> tuple[object, object] | None:
    """Return root directory and configuration file as without the values of our options; None where the user says."""
    from _pytest.config.findpaths import determine_setup

    known = config.known_args_namespace
    if known.rootdir or known.inifilename:
        return None
    values = paths_behind(given)
    places = [str(place) for place in known.file_or_dir if str(place) in given and str(place) not in values]
    how: dict[str, Any] = {
        "inifile": None,
        "args": places,
        "rootdir_cmd_arg": None,
        "invocation_dir": config.invocation_params.dir,
    }
    try:
        found = determine_setup(override_ini=None, **how)
    except TypeError:  # Before pytest 8.4.
        found = determine_setup(**how)
    return found[0], found[1]
