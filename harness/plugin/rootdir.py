"""The root directory is that of the tests: pytest would also take it from a path that is the value of an option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from harness.run.request import joined, paths_behind

if TYPE_CHECKING:
    from collections.abc import Sequence


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
