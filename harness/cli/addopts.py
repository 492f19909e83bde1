"""What a project's pytest configuration adds to every command line."""

from __future__ import annotations

import configparser
import shlex
import tomllib
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_INI = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}


def added_options(tests: Path) -> tuple[str, ...]:
    """Return `addopts` of the configuration that pytest reads for tests in this folder, empty without one.

    Raises `InputError` for a file that cannot be read, as pytest would.
    """
    tests = tests.resolve()
    for folder in (tests, *tests.parents):
        try:
            found = _in_toml(folder / "pyproject.toml")
            for name, section in _INI.items():
                found = _in_ini(folder / name, section) if found is None else found
        except (OSError, ValueError, configparser.Error) as error:
            raise InputError(f"{folder}: its pytest configuration cannot be read ({error})") from None
        if found is not None:
            return tuple(shlex.split(found)) if isinstance(found, str) else tuple(found)
    return ()


def _in_ini(path: Path, section: str) -> str | None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path, encoding="utf-8")
    return parser.get(section, "addopts", fallback="") if parser.has_section(section) else None


def _in_toml(path: Path) -> str | list[str] | None:
    if not path.is_file():
        return None
    table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("pytest")
    if table is None:
        return None
    found: str | list[str] = table.get("ini_options", table).get("addopts", "")
    return found
