"""The lock of a folder: one process at a time holds it, and its death releases the lock at once.

The folder itself is locked, so no other file appears. The holder's child processes may also work in the folder.
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
"""Environment variable with the folders that a process's parents hold."""
_PAUSE = 0.2
_held: dict[str, tuple[int, int]] = {}
"""Descriptor and thread of each folder that this process holds."""


class FolderBusyError(Exception):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder until the block ends; raises `FolderBusyError` if another process has it.

    With `on_wait`, which is called once, wait for the other process instead. A missing folder, or one on a file system
    without locks, counts as free.
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


def is_held(folder: Path) -> bool:
    """Return whether this process holds a folder, or one that started it does."""
    name = os.path.realpath(folder)
    return name in _held or name in os.environ.get(_VARIABLE, "").split(os.pathsep)


def _take(folder: Path) -> str | None:
    """Take the lock and return the folder's name for its release, "" if no lock is needed; None if it is busy."""
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
    """Close the descriptors in a fork of this process, which would otherwise keep the lock after the holder's death."""
    for descriptor, _ in _held.values():
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_copy)
