"""The lock of a folder: one process at a time has it, and it is free at once when that process dies.

The folder itself is locked, so no other file appears. Processes that the holder starts may work in the folder, too.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_VARIABLE = "STRESS_FOLDERS_HELD"
"""The environment variable that tells processes which folders those that started them hold."""
_PAUSE = 0.2
_held: dict[str, tuple[int, int]] = {}
"""The descriptor of each folder that this process holds, and the thread that does."""


class FolderBusyError(Exception):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder until the block ends; raises `FolderBusyError` if another process has it.

    With `on_wait`, which is called once, wait for the other process instead. A folder that is not there, or on a file
    system without locks, is held by no one.
    """
    mine = _take(folder)
    while mine is None:
        if on_wait is None:
            raise FolderBusyError
        on_wait()
        while (mine := _take(folder)) is None:
            time.sleep(_PAUSE)
    try:
        yield
    finally:
        if mine:
            _release(mine)


def _take(folder: Path) -> str | None:
    """Return the name under which this process holds the folder from now on, empty if it need not; None if busy."""
    name = os.path.realpath(folder)
    inherited = os.environ.get(_VARIABLE, "").split(os.pathsep)
    if name in _held:
        return "" if _held[name][1] == threading.get_ident() else None
    if name in inherited:
        return ""
    try:
        import fcntl

        descriptor = os.open(name, os.O_RDONLY)
    except (ImportError, OSError):
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # A file system without locks.
        os.close(descriptor)
        return ""
    _held[name] = descriptor, threading.get_ident()
    os.environ[_VARIABLE] = os.pathsep.join(filter(None, (*inherited, name)))
    return name


def _release(name: str) -> None:
    os.close(_held.pop(name)[0])
    rest = [each for each in os.environ.get(_VARIABLE, "").split(os.pathsep) if each not in {name, ""}]
    os.environ[_VARIABLE] = os.pathsep.join(rest)
    if not rest:
        del os.environ[_VARIABLE]


def _forget_in_copy() -> None:
    """Close the descriptors in a copy of this process, which else would keep the lock beyond the holder's death."""
    for descriptor, _ in _held.values():
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_copy)
