"""The files of code that decide a measurement: what it imports, and what that imports."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PACKAGES = Path(__file__).parents[2]
"""The folder in which this package lies."""
_JUDGING = {"plugin", "report", "cli", "calibration"}
"""Rooms of this package that start, judge and show measurements, and decide none."""


def decisive_files(sources: Iterable[Path], *, projects: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return the sources, and every file that they import, directly or not: of this package, and of the projects.

    An import within a function counts, one for type checkers alone does not. `projects` are folders in which imports of
    a user's own are looked for. Raises `InputError` for a file that cannot be read or parsed.
    """
    found: set[Path] = set()
    waiting = [source.resolve() for source in sources]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file}: cannot be read as Python code ({error})") from None
        for name in _imported(tree, file):
            waiting += _files_of(name, projects)
    return tuple(sorted(found))


def _imported(node: ast.AST, file: Path) -> Iterator[str]:
    """Yield the dotted names that code imports, each also with what is taken from it, which may be a module."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                start = ".".join((*_package(file, level), *([module] if module else [])))
                yield start
                yield from (f"{start}.{alias.name}" for alias in names)
            case _:
                yield from _imported(child, file)


def _package(file: Path, level: int) -> tuple[str, ...]:
    """Return the package that a relative import of this level is from, as dotted parts below this package's folder."""
    if not level or not file.is_relative_to(_PACKAGES):
        return ()
    return file.relative_to(_PACKAGES).parts[:-level]


def _files_of(name: str, projects: Sequence[Path]) -> list[Path]:
    """Return the files of a module and of the packages around it; none for what is installed."""
    parts = name.split(".")
    if parts[0] == "harness":
        folders: Sequence[Path] = () if _JUDGING & set(parts[1:2]) else (_PACKAGES,)
    else:
        folders = projects
    places = [folder.joinpath(*parts[:depth]) for folder in folders for depth in range(1, len(parts) + 1)]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file.resolve() for file in files if file.is_file()]
