"""The lock of a folder: one process at a time holds it, and its death releases the lock at once.

The folder itself is locked, so no other file appears.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_VARIABLE = "STRESS_FOLDERS_HELD"
"""Environment variable with the folders that this process and its parents hold."""
_descriptors: dict[str, int] = {}


class FolderBusyError(Exception):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder until the block ends; raises `FolderBusyError` if another process has it.

    With `on_wait`, which is called once, wait for the other process instead. A folder on a file system without locks
    counts as free. Raises `OSError` for a missing one.
    """
    name, outside = os.path.realpath(folder), os.environ.get(_VARIABLE)
    descriptor = os.open(name, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                raise FolderBusyError from None
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # A file system without locks.
            pass
        _descriptors[name] = descriptor
        os.environ[_VARIABLE] = os.pathsep.join(filter(None, (outside, name)))
        try:
            yield
        finally:
            _descriptors.pop(name, None)
            os.environ.pop(_VARIABLE)
            os.environ.update({} if outside is None else {_VARIABLE: outside})
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Return whether this process holds a folder, or one that started it does."""
    name = os.path.realpath(folder)
    return name in _descriptors or name in os.environ.get(_VARIABLE, "").split(os.pathsep)


def _forget_in_copy() -> None:
    """Close the descriptors in a fork of this process, which would otherwise keep the lock after the holder's death."""
    while _descriptors:
        os.close(_descriptors.popitem()[1])


os.register_at_fork(after_in_child=_forget_in_copy)
