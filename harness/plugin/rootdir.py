"""Another project's root directory is not this one's, though the path of its checkpoint was named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.errors import printable
from harness.gates.roles import ROLES
from harness.plugin.options import holds_gate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def expect_own_root(config: pytest.Config) -> None:
    """Raise `UsageError` where pytest took its root directory from the value of an option, not from the gate here.

    pytest looks for its configuration before it knows our options, and takes every argument that is a path for a test:
    with `--candidate ../other/new.pth` the configuration and the gates would be the other project's.
    """
    if config.option.rootdir or config.option.inifilename:
        return
    here = config.invocation_params.dir
    own = next((folder for folder in (here, *here.parents) if holds_gate(folder / "stress_tests")), None)
    named, values = _paths(list(map(str, config.invocation_params.args)), here)
    if own is None or own.resolve() == config.rootpath or not values:
        return
    if all(path.is_relative_to(own.resolve()) for path in named):
        raise pytest.UsageError(
            f"the root directory is {printable(config.rootpath)}, found by the path of an option's value, and the gate "
            f"here is that of {printable(own)}; write the option with an equals sign, such as --candidate=PATH"
        )


def _paths(arguments: Sequence[str], here: Path) -> tuple[list[Path], list[Path]]:
    """Return which arguments are paths of tests, and which are paths that follow one of our options."""
    ours = {f"--{name}" for name in (*ROLES, "gates")}
    named: list[Path] = []
    values: list[Path] = []
    before = ""
    for argument in arguments:
        path = (here / argument.split("::")[0]).resolve()
        if not argument.startswith("-") and path.exists():
            (values if before in ours or before.startswith("--stress-") else named).append(path)
        before = argument
    return named, values
