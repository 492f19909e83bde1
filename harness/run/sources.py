"""Sources of a user's code that decide a run: its stress tests, network, transform and data, and all they import."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.decisive import INSTALLED, decisive_files
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.run.request import RunRequest

_SOURCE = "source "


def sources_of(request: RunRequest, tests: Iterable[Path], *, root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the user's own code, by a name that says that it is one.

    `tests` are files and folders of stress tests. Modules that the request names count once they are imported.
    Installed packages do not count.
    """
    specs = (request.network_options.spec, request.data_options.transform, request.data_options.spec)
    modules = [sys.modules.get(str(spec).partition(":")[0]) for spec in specs if spec]
    named = [Path(file) for module in modules if (file := getattr(module, "__file__", None))]
    folders = {path.resolve() for path in tests if path.is_dir()} - {root.resolve()}
    files = {path.resolve() for path in tests if path.is_file() and path.suffix == ".py"}
    files |= {path for folder in folders for path in folder.rglob("*.py")} | {*root.resolve().glob("*.py")}
    roots = sorted(path for path in (*files, *named) if _is_users(path))
    try:
        files = {*decisive_files(roots, projects=(*sorted(folders), root, Path.cwd()), own=False), *roots}
    except InputError:  # A file that is no Python; whoever imports it says so.
        files = set(roots)
    return {f"{_SOURCE}{path}": _sha256(path) for path in sorted(files) if _is_users(path)}


def read_again(sources: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the same files now, "" for one that is gone."""
    return {name: _sha256(Path(name.removeprefix(_SOURCE))) for name in sources if name.startswith(_SOURCE)}


def _is_users(path: Path) -> bool:
    return path.suffix == ".py" and INSTALLED.isdisjoint(path.parts)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
