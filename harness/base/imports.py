"""The user's code that this process runs: each file with its hash when it ran, and results kept with these files.

It needs the standard library only, since the child process of a callable loads it by its path.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CHANGED = "changed"
"""In place of a hash: a file that ran with two contents, or code that cannot be followed. Equals no hash."""
_FOREIGN = tuple(f"{folder}{os.sep}" for folder in (Path(os.__file__).parent, Path(__file__).absolute().parents[1]))
_INSTALLED = {"site-packages", "dist-packages"}
_LOADABLE = (".py", ".pyc", ".pyd", ".so")
_files: dict[str, str] = {}
_looked_at: set[str] = set()


def files() -> dict[str, str]:
    """Return the SHA-256 of all that determines the user's code in this process, by path.

    These are the files that belong neither to Python, nor to an installed package, nor to this package, from the
    moment they ran. A path with a separator at its end is a folder of modules, with a hash of their names: a new module
    may hide another. Packages installed from a local folder count with their record of files.
    """
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file not in _looked_at:
            _looked_at.add(file)
            _add(file, again=False)
    for place in set(sys.path) - _looked_at:
        _looked_at.add(place)
        folder = Path(place).absolute()
        if _is_users(folder):
            _add_folder(folder)
        with suppress(OSError):
            for local in folder.glob("*.dist-info/direct_url.json"):
                _files[str(local.with_name("RECORD"))] = digest(str(local.with_name("RECORD")))
    return dict(_files)


def ran() -> dict[str, str]:
    """Return the files of code in `files`, without folders."""
    return {path: each for path, each in files().items() if Path(path).is_absolute() and not path.endswith(os.sep)}


def include(others: Mapping[str, str]) -> None:
    """Add the files of another process of the same run; if a file had another hash here, it counts as changed."""
    for path, other in others.items():
        if _files.setdefault(path, other) != other and not path.endswith(os.sep):
            _files[path] = CHANGED


def begin() -> None:
    """Forget what ran before in this process, except modules that are still loaded."""
    loaded = {getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())}
    for path in set(_files) - {str(Path(file).absolute()) for file in loaded if isinstance(file, str)}:
        del _files[path]
    _looked_at.clear()


def unchanged(before: object) -> bool:
    """Return whether files that were returned by `files` earlier are the same now, for this process and on disk."""
    return isinstance(before, dict) and all(
        (_files.get(path) or digest(path)) == was != CHANGED for path, was in before.items()
    )


def digest(path: str) -> str:
    """Return the SHA-256 of a file, or of the names of modules in a folder; empty if it cannot be read."""
    try:
        if path.endswith(os.sep):
            with os.scandir(path) as entries:
                content = "\n".join(sorted(each.name for each in entries if _is_loadable(each))).encode()
        elif not Path(path).is_file():
            return ""
        else:
            content = Path(path).read_bytes()
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(content).hexdigest()


def _is_users(path: Path) -> bool:
    return not f"{path}{os.sep}".startswith(_FOREIGN) and _INSTALLED.isdisjoint(path.parts)


def _is_loadable(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(_LOADABLE) or (entry.is_dir() and Path(entry.path, "__init__.py").is_file())


def _add(file: str, *, again: bool) -> None:
    """Add a file, or the archive with it, unless it is foreign; `again` is true for one that runs now."""
    path = Path(file).absolute()
    if not _is_users(path):
        return
    place = next((place for place in (path, *path.parents) if os.path.isfile(place)), None)  # noqa: PTH113  No error.
    if place is not None and (again or str(place) not in _files):
        include({str(place): digest(str(place))})
        _add_folder(place.parent)


def _add_folder(folder: Path) -> None:
    path = f"{folder}{os.sep}"
    if path not in _files and (names := digest(path)):
        _files[path] = names


def _note(event: str, arguments: tuple[object, ...]) -> None:
    """Add the file of code that runs now: a module, a script, or a file that is loaded by its path."""
    if event == "exec" and not (file := getattr(arguments[0], "co_filename", "<")).startswith("<"):
        with suppress(OSError, ValueError):
            _add(file, again=True)


# At the moment of the import, since a file may change between that and the end of a run.
sys.addaudithook(_note)
