"""Outputs of pytest itself and of its other plugins: none of them replaces an input of the run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.base.errors import InputError, OutputError
from harness.base.outputs import REPORT_PAGE, Inputs, Kind, Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

_READ = frozenset(
    {
        *("file_or_dir", "inifilename", "override_ini", "rootdir", "confcutdir", "ignore", "ignore_glob", "deselect"),
        *("keyword", "markexpr", "plugins", "importmode", "cov_config"),
    }
)
"""Options of pytest and its plugins that name what is read, or no file."""
_JUNIT = Kind("a JUnit report", rb"\s*<\?xml[^>]*>\s*<testsuites?\b")
_KINDS = {"htmlpath": REPORT_PAGE, "xmlpath": _JUNIT}
"""Kinds of outputs, by the name of the option."""


def expect_others_keep(config: pytest.Config, inputs: Inputs) -> None:
    """Raise `InputError` for an option of pytest or of another plugin that would replace a file that is no output.

    Examples are `--junitxml=test.npz`, and `--basetemp` with a folder, which pytest empties.
    """
    for name, value in _named(config):
        path = config.invocation_params.dir / value
        if name == "basetemp":
            found = inputs.inside(path) or inputs.holding(path) or _file_in(path)
        elif name in {"cov_report html", "cov_report annotate"}:
            found = inputs.inside(path)
        else:
            found = inputs.holding(path) if path.is_file() else None
        if found is not None:
            raise OutputError(
                f"{value}: named by an option of pytest ({name}), which would replace an input of this run, {found}; "
                "name another path"
            )
        if name in _KINDS:
            _expect(name, path, inputs, _KINDS[name])


def _named(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Return the name and the value of each option that may name an output."""
    given = dict(vars(config.option))
    if config.pluginmanager.hasplugin("logging"):
        given["log_file"] = given.get("log_file") or config.getini("log_file")
    reports = given.pop("cov_report", None)
    if isinstance(reports, dict):
        given.update({f"cov_report {kind}": value for kind, value in reports.items()})
    for name, value in given.items():
        if not (name in _READ or name.startswith("stress_")) and isinstance(value, str | os.PathLike) and value:
            yield name, os.fspath(value)


def _file_in(folder: Path) -> Path | None:
    """Return a file that lies in a folder itself: folders of temporary files have none."""
    if not folder.is_dir():
        return None
    return next((each for each in sorted(folder.iterdir()) if each.is_file() and not each.is_symlink()), None)


def _expect(name: str, path: Path, inputs: Inputs, kind: Kind) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        return  # A device or a pipe, such as /dev/stdout, loses nothing.
    try:
        Output(path, kind, inputs).expect_own()
    except InputError as error:
        raise OutputError(f"{error} (named by an option of pytest, {name})") from None
