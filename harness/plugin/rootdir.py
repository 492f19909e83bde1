"""The root directory is that of the tests: pytest would also take it from a path that is the value of an option."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from harness.gates.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATHS = {*(f"--{role}" for role in ROLES), "--gates", "--stress-reports", "--stress-history"}


def joined(arguments: Sequence[str]) -> list[str]:
    """Return a command line with the paths of our options joined to them by an equals sign, as pytest needs it.

    It looks for its root directory before it knows our options, and takes a path behind one for a place of tests.
    """
    result: list[str] = []
    for argument in arguments:
        if result and result[-1] in _PATHS and not argument.startswith("-"):
            result[-1] += f"={argument}"
        else:
            result.append(argument)
    return result


def expect_own(config: pytest.Config) -> None:
    """Raise `UsageError` when pytest has found its root by the path behind one of our options, and by no other."""
    given = list(map(str, config.invocation_params.args))
    together = joined(given)
    if together == given or (found := _found_without(config, given)) in {None, (config.rootpath, config.inipath)}:
        return
    changed = " ".join(argument for argument in together if argument not in given)
    raise pytest.UsageError(
        f"the root directory would be {config.rootpath}, which pytest took from the path behind an option, not that of "
        f"the tests, {found[0] if found else ''}; join them by an equals sign: {changed}"
    )


def _found_without(config: pytest.Config, given: Sequence[str]) -> tuple[object, object] | None:
    """Return root directory and configuration file as without the values of our options; None where the user says."""
    from _pytest.config.findpaths import determine_setup

    known = config.known_args_namespace
    if known.rootdir or known.inifilename:
        return None
    values = {after for name, after in pairwise(given) if name in _PATHS}
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
