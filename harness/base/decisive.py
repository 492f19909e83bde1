"""The files of code that determine a measurement: its sources and all their imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import UserCodeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_PACKAGE = Path(__file__).parents[1]
_MEASURING = "run"
"""The room that measures. It and the rooms that it imports determine values; the others only judge and show them."""
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Names of folders of installed packages."""


def decisive_files(sources: Iterable[Path], *, projects: Sequence[Path] = (), own: bool = True) -> tuple[Path, ...]:
    """Return the sources and every file that they import, directly or not, of this package and of the user.

    Imports inside functions count; those for type checkers do not. In an installed package, only its own modules are
    followed. The user's modules are searched beside the package of the importing file and in the folders of `projects`.
    Unless `own`, imports of this package are not followed. Raises `InputError` for an unreadable or unparsable file.
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
            raise UserCodeError(f"{file}: cannot be read as Python code ({error})") from None
        beside, top = _outermost_package(file)
        for level, name in imports:
            first = name.partition(".")[0]
            if not level and first == _PACKAGE.name:
                waiting += _own_files(name, _PACKAGE) if own else ()
                continue
            if level:
                where: tuple[Path, ...] = (file.parents[level - 1],)
            elif beside.name in INSTALLED:
                # PyTorch alone has thousands of files, so only the installed package's own modules count.
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
    """Yield the imports of code: the number of folders up, 0 for absolute, and the dotted name.

    The name includes the imported object, which may be a module too.
    """
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.expr() | ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                continue
            case ast.Import(names):
                yield from ((0, alias.name) for alias in names)
            case ast.ImportFrom(module, names, level):
                yield from ((level, ".".join(filter(None, (module, alias.name)))) for alias in names)
            case _:
                yield from _imported(child)


def _outermost_package(file: Path) -> tuple[Path, str]:
    """Return the folder of a file's outermost package, and the name of that package, or of a file without one."""
    beside, top = file.parent, file.stem
    while (beside / "__init__.py").is_file():
        beside, top = beside.parent, beside.name
    return beside, top


def _files_of(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files of a module and of its packages; none for a module elsewhere, or in a room that only judges."""
    parts = name.split(".")
    places = [folder.joinpath(*parts[:depth]) for folder in folders for depth in range(len(parts) + 1)]
    candidates = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    files = [file.resolve() for file in candidates if file.is_file()]
    return [file for file in files if not file.is_relative_to(_PACKAGE) or _decides(file, _PACKAGE)]


def _own_files(name: str, package: Path) -> list[Path]:
    """Return the files of a module of this package and of its packages; none of a room that only judges."""
    parts = name.split(".")
    modules = _own_modules(package)
    names = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return [modules[each] for each in names if each in modules]


@cache
def _own_modules(package: Path) -> dict[str, Path]:
    """Return the files of this package's modules that determine values, by dotted name."""
    files = (file for file in package.rglob("*.py") if _decides(file, package))
    return {
        ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): file.resolve()
        for file in files
    }


def _decides(file: Path, package: Path) -> bool:
    room = file.relative_to(package).with_suffix("").parts[0]
    return room == "__init__" or room in _deciding_rooms(package)


@cache
def _deciding_rooms(package: Path) -> frozenset[str]:
    """Return the room that measures, and all rooms that it imports, directly or not."""
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
