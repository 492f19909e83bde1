"""The files of code that decide a measurement: what it imports, and what that imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PACKAGE = Path(__file__).parents[1]
_MEASURING = "run"
"""The room of this package that measures: it decides, and so do those that it imports. All others judge and show."""
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Names of folders of installed packages."""


def decisive_files(sources: Iterable[Path], *, projects: Sequence[Path] = (), own: bool = True) -> tuple[Path, ...]:
    """Return the sources, and every file that they import, directly or not: of this package, and of the user's own.

    An import within a function counts, one for type checkers alone does not, and of what an installed package imports
    that package alone is followed. The user's modules are looked for beside
    the package of the file that imports them, and in the folders of `projects`. Unless `own`, imports of this package
    are not followed. Raises `InputError` for a file that cannot be read or parsed.
    """
    found: set[Path] = set()
    sought: set[tuple[str, tuple[Path, ...]]] = set()
    waiting = [source.resolve() for source in sources]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        try:
            imports = _imports(file.read_bytes())
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{file}: cannot be read as Python code ({error})") from None
        beside, top = _outermost_package(file)
        for level, name in imports:
            first = name.partition(".")[0]
            if not level and first == _PACKAGE.name:
                waiting += _own_files(name, _PACKAGE) if own else ()
                continue
            if level:
                where: tuple[Path, ...] = (file.parents[level - 1],)
            elif beside.name in INSTALLED:
                # All that lies there is installed, and PyTorch alone is thousands of files; a package's own may decide.
                where = (beside,) if first == top else ()
            else:
                where = (beside, *projects)
            if (name, where) not in sought:
                sought.add((name, where))
                waiting += _files_of(name, where)
    return tuple(sorted(found))


@cache
def _imports(code: bytes) -> tuple[tuple[int, str], ...]:
    return tuple(_imported(ast.parse(code)))


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what code imports: how many folders up, 0 for absolute, and the dotted name.

    What is taken from a module may be a module, too.
    """
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from ((0, alias.name) for alias in names)
            case ast.ImportFrom(module, names, level):
                yield from ((level, ".".join(filter(None, (module, alias.name)))) for alias in names)
            case _:
                yield from _imported(child)


def _outermost_package(file: Path) -> tuple[Path, str]:
    """Return the folder that a file's outermost package is in, and the name of that package, or of the file alone."""
    beside, top = file.parent, file.stem
    while (beside / "__init__.py").is_file():
        beside, top = beside.parent, beside.name
    return beside, top


def _files_of(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files of a module and of the packages around it; none for what is installed, or only judges."""
    parts = name.split(".")
    places = [folder.joinpath(*parts[:depth]) for folder in folders for depth in range(len(parts) + 1)]
    candidates = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    files = [file.resolve() for file in candidates if file.is_file()]
    return [file for file in files if not file.is_relative_to(_PACKAGE) or _decides(file, _PACKAGE)]


@cache
def _own_files(name: str, package: Path) -> tuple[Path, ...]:
    """Return the files of a module of this package, which stay where they are."""
    return tuple(_files_of(name, (package.parent,)))


def _decides(file: Path, package: Path) -> bool:
    room = file.relative_to(package).with_suffix("").parts[0]
    return room == "__init__" or room in _deciding_rooms(package)


@cache
def _deciding_rooms(package: Path) -> frozenset[str]:
    """Return the room that measures, and those that it imports, directly or not."""
    found: set[str] = set()
    waiting = [_MEASURING]
    while waiting:
        room = waiting.pop()
        if room in found:
            continue
        found.add(room)
        for file in (package / room).rglob("*.py"):
            names = (name.split(".") for level, name in _imports(file.read_bytes()) if not level)
            waiting += [parts[1] for parts in names if parts[0] == package.name and len(parts) > 1]
    return frozenset(found)
