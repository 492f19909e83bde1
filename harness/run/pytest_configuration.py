"""Options that a project's pytest configuration adds to every command line, and adding to them."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import tomllib
from typing import TYPE_CHECKING

import tomlkit
from tomlkit.exceptions import TOMLKitError

from harness.base.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tomlkit import TOMLDocument
    from tomlkit.items import Table

_INI = {"pytest.ini": "pytest", ".pytest.ini": "pytest", "tox.ini": "pytest", "setup.cfg": "tool:pytest"}
_READ = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""The files that may hold pytest's configuration, in the order in which pytest looks; it takes the first that does."""


ADDED = "PYTEST_ADDOPTS"
"""The variable of the environment with options that pytest puts behind those of the configuration."""


def added_options(tests: Path) -> tuple[str, ...]:
    """Return the options that pytest adds for tests in this folder: `addopts`, then those of the environment.

    Raises `InputError` for a file that cannot be read, as pytest would.
    """
    found = configuration_of(tests)
    return (*(found[1] if found else ()), *environment_options())


def environment_options() -> tuple[str, ...]:
    """Return the options in the environment; raises `InputError` for quotes that do not end."""
    try:
        return tuple(shlex.split(os.environ.get(ADDED, "")))
    except ValueError as error:
        raise ConfigurationError(f"{ADDED}: cannot be read ({error})") from None


def configuration_of(tests: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Return the file that pytest reads for tests in this folder, with its `addopts`; None without one.

    Raises `InputError` for a file that cannot be read.
    """
    tests = tests.resolve()
    for folder in (tests, *tests.parents):
        if (path := configuration(folder)) is not None:
            return path, options_in(path.name, _text(path)) or ()
    return None


def configuration(folder: Path) -> Path | None:
    """Return the file of this folder that holds pytest's configuration, None without one."""
    for name in _READ:
        path = folder / name
        # A file of pytest's own counts though it says nothing.
        if path.is_file() and ("pytest." in name or options_in(name, _text(path)) is not None):
            return path
    return None


def options_in(name: str, text: str) -> tuple[str, ...] | None:
    """Return `addopts` in the text of a configuration file of this name; None where it is no pytest configuration.

    Raises `InputError` for text that cannot be parsed.
    """
    try:
        found = _in_ini(text, _INI[name]) if name in _INI else _in_toml(name, text)
        return None if found is None else tuple(shlex.split(found) if isinstance(found, str) else map(str, found))
    except (ValueError, configparser.Error) as error:
        raise ConfigurationError(f"{name}: its pytest configuration cannot be read ({error})") from None


def with_options(name: str, text: str, options: Sequence[tuple[str, ...]], *, testpaths: str = "") -> str:
    """Return the text of a configuration file with these options, each with its value, at the end of its `addopts`.

    All else stays unchanged, comments included. A file without a section for pytest gets one, with `testpaths` if any
    are given. Raises `InputError` for a file that cannot take them; the message has the lines to write by hand.
    """
    before = options_in(name, text)
    try:
        made = (_ini_with if name in _INI else _toml_with)(name, text, options, testpaths if before is None else "")
        whole = options_in(name, made) == (*(before or ()), *(part for option in options for part in option))
    except (TOMLKitError, ValueError, TypeError, AttributeError, InputError):
        whole = False
    if not whole:
        by_hand = " ".join(shlex.join(option) for option in options)
        raise ConfigurationError(
            f"{name}: its pytest configuration cannot be added to; write into its addopts: {by_hand}"
        )
    return made


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: its pytest configuration cannot be read ({error})") from None


def _in_ini(text: str, section: str) -> str | None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return parser.get(section, "addopts", fallback="") if parser.has_section(section) else None


def _in_toml(name: str, text: str) -> str | list[str] | None:
    document = tomllib.loads(text)
    table = (document.get("tool", {}) if name == "pyproject.toml" else document).get("pytest")
    if table is None:
        return None
    found: str | list[str] = table.get("ini_options", table).get("addopts", "")
    return found


def _ini_with(name: str, text: str, options: Sequence[tuple[str, ...]], testpaths: str) -> str:
    lines, section = text.splitlines(), f"[{_INI[name]}]"
    if section not in map(str.strip, lines):
        lines += [*([""] if lines else []), section]
    if testpaths:
        lines.append(f"testpaths = {testpaths}")
    start = [line.strip() for line in lines].index(section) + 1
    end = next((at for at in range(start, len(lines)) if lines[at].startswith("[")), len(lines))
    here = [at for at in range(start, end) if re.match(r"addopts\s*[=:]", lines[at])]
    added = [f"    {shlex.join(option)}" for option in options]
    if here:
        at = here[0] + 1
        while at < end and lines[at][:1].isspace() and lines[at].strip():
            at += 1
    else:
        at = end
        while at > start and not lines[at - 1].strip():
            at -= 1
        added[:0] = ["addopts ="] if added else []
    return "\n".join([*lines[:at], *added, *lines[at:]]) + "\n"


def _toml_with(name: str, text: str, options: Sequence[tuple[str, ...]], testpaths: str) -> str:
    document = tomlkit.parse(text)
    table = _pytest_table(document, name)
    if testpaths:
        table["testpaths"] = [testpaths]
    given = [part for option in options for part in option]
    found = table.get("addopts")
    if isinstance(found, str):
        table["addopts"] = f"{found} {shlex.join(given)}".strip()
    elif found is None and given:
        array = tomlkit.array()
        for option in options:
            array.add_line(*option)
        array.add_line(indent="")
        table["addopts"] = array
    elif found is not None:
        found.extend(given)
    return tomlkit.dumps(document)


def _pytest_table(document: TOMLDocument, name: str) -> Table:
    """Return the table of pytest's options, a new one if the file has none."""
    if name != "pyproject.toml":
        return document.setdefault("pytest", tomlkit.table())  # type: ignore[no-any-return]
    tool = document.setdefault("tool", tomlkit.table(is_super_table=True))
    if "pytest" not in tool:
        tool["pytest"] = tomlkit.table(is_super_table=True)
        tool["pytest"]["ini_options"] = tomlkit.table()
    table: Table = tool["pytest"]
    return table.get("ini_options", table)  # type: ignore[no-any-return]
