"""Inputs of a run at two moments: the bytes of each file that its settings name, when it begins and when it ends."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from harness.base.errors import ChangedError, printable
from harness.base.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.base.outputs import Inputs

_READ_AGAIN = 256 << 20
"""Bytes of the largest file that is read again. Size and time stand for a larger one, and for files in folders."""
_GONE = "no file"


def state_of(inputs: Inputs) -> dict[Path, str]:
    """Return the state of each file among the inputs, by its absolute path, except code, which counts once it runs.

    That is its SHA-256. For files in folders and the largest ones, it is their inode, size and time of change.
    """
    found: dict[Path, str] = {}
    for each in inputs.paths:
        path = each.absolute()
        if path.suffix == ".py":
            continue
        if path.is_dir():
            found.update((file, _told_by_status(file)) for file in _files_in(path))
        else:
            found[path] = _content(path)
    return found


def expect_unchanged(before: Mapping[Path, str]) -> None:
    """Raise `InputError` for the first file that is not as it was: changed, replaced or gone."""
    for path, was in before.items():
        now = _content(path) if was == _GONE or was.startswith("SHA-256") else _told_by_status(path)
        if now != was:
            raise ChangedError(
                f"{printable(path)}: changed while the gate ran: it was {was}, and is {now} now; run the gate again "
                "when nothing writes to it"
            )


def _content(path: Path) -> str:
    try:
        if path.stat().st_size > _READ_AGAIN:
            return _told_by_status(path)
        return f"SHA-256 {hashlib.sha256(read_regular(path, max_bytes=_READ_AGAIN)).hexdigest()[:16]}…"
    except (OSError, ValueError):
        return _told_by_status(path)


def _told_by_status(path: Path) -> str:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return _GONE
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    return f"file {found.st_ino} of {found.st_size} bytes, changed at {found.st_mtime_ns} ns"


def _files_in(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (folder.__class__(place, name) for name in names)
