"""The user's code that this process runs.

Each file with its hash when it ran, and results kept with these files.

It needs the standard library only, since the child process of a callable loads it by its path.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANGED = "changed"
"""In place of a hash: a file that ran with two contents, or code that cannot be followed.

Equals no hash.
"""
_FOREIGN = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(os.__file__).parent, Path(__file__).absolute().parents[1])
)
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_files: dict[str, str] = {}
_looked_at: set[str] = set()
_scan: list[tuple[list[Any], set[str]]] = [([], set())]


def files() -> dict[str, str]:
    """Return the SHA-256 of all that determines the user's code in this process, by path.

    These are the files that belong neither to Python, nor to an installed package, nor to this
    package, from the moment they ran. A path with a separator at its end is a folder of modules,
    with a hash of their names: a new module may hide another. Packages installed from a local
    folder count with their record of files.
    """
    _looked_at.update(modules := _loaded() - _looked_at)
    for file in filter(is_users, modules):
        _add(file, again=False)
    for place in set(sys.path) - _looked_at:
        _looked_at.add(place)
        if is_users(folder := _absolute(place)):
            _add_folder(folder)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".dist-info") and os.path.exists(
                    os.path.join(entry.path, "direct_url.json")
                ):
                    record = os.path.join(entry.path, "RECORD")
                    _files[record] = digest(record)
    return dict(_files)


def _loaded() -> set[str]:
    """Return the files of modules.

    Thousands are looked through anew only if another module came or went.
    """
    if (modules := list(sys.modules.values())) != _scan[0][0]:
        found = (getattr(module, "__dict__", {}).get("__file__") for module in modules)
        _scan[0] = modules, {_absolute(file) for file in found if isinstance(file, str)}
    return _scan[0][1]


def ran() -> dict[str, str]:
    """Return the files of code in `files`, without folders."""
    return {
        path: each
        for path, each in files().items()
        if os.path.isabs(path) and not path.endswith(os.sep)
    }


def include(others: Mapping[str, str]) -> None:
    """Add the files of another process of the same run.

    If a file had another hash here, it counts as changed.
    """
    for path, other in others.items():
        if _files.setdefault(path, other) != other and not path.endswith(os.sep):
            _files[path] = CHANGED


def begin() -> None:
    """Forget what ran before in this process, except modules that are still loaded."""
    for path in _files.keys() - _loaded():
        del _files[path]
    _looked_at.clear()


def unchanged(before: object) -> bool:
    """Return whether files that `files` returned earlier are the same now.

    They must be the same for this process and on disk.
    """
    return isinstance(before, dict) and all(
        (_files.get(path) or digest(path)) == was != CHANGED for path, was in before.items()
    )


def digest(path: str) -> str:
    """Return the SHA-256 of a file, or of the names of modules in a folder.

    Empty if it cannot be read.
    """
    with suppress(OSError, ValueError):
        if path.endswith(os.sep):
            with os.scandir(path) as entries:
                names = sorted(each.name for each in entries if _is_loadable(each))
            return hashlib.sha256("\n".join(names).encode()).hexdigest()
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if os.path.isfile(path) else ""
    return ""


def _absolute(path: str) -> str:
    return (
        path if path.startswith(os.sep) else os.path.join(os.getcwd(), path)
    )  # Links and steps up stay.


@cache
def is_users(path: str) -> bool:
    """Return whether a file is the user's code, neither Python's nor of an installed package."""
    return not f"{path}{os.sep}".startswith(_FOREIGN) and not any(
        name in f"{path}{os.sep}" for name in _INSTALLED
    )


def _is_loadable(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith((".py", ".pyc", ".pyd", ".so")) or os.path.isfile(
        f"{entry.path}{os.sep}__init__.py"
    )


def _add(file: str, *, again: bool) -> None:
    if not is_users(place := _absolute(file)):
        return
    while not os.path.isfile(place) and place != (
        above := os.path.dirname(place)
    ):  # A module in an archive.
        place = above
    if os.path.isfile(place) and (
        again or place not in _files
    ):  # `again` is true for code that runs now.
        include({place: digest(place)})
        _add_folder(os.path.dirname(place))


def _add_folder(folder: str) -> None:
    if (path := os.path.join(folder, "")) not in _files and (names := digest(path)):
        _files[path] = names


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "exec" and not (file := getattr(arguments[0], "co_filename", "<")).startswith("<"):
        with suppress(OSError, ValueError):
            _add(file, again=True)


# At the moment of the import, since a file may change between that and the end of a run.
sys.addaudithook(_note)
