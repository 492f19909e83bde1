"""What caches on disk share: a folder of files, of which those used the longest ago go first."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class CacheInfo:
    """How much a cache holds."""

    folder: Path
    entries: int
    bytes: int


class Entries:
    """The files of a folder that `pattern` names; processes may share it, and clocks may be wrong.

    What cannot be listed, marked as used or deleted stays as it is: it costs room, and is no reason to judge nothing.
    """

    def __init__(self, folder: Path, *, pattern: str, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._pattern = pattern

    def info(self) -> CacheInfo:
        """Return the number and size of the entries."""
        sizes = [size for _, size, _ in self._entries()]
        return CacheInfo(self.folder, len(sizes), sum(sizes))

    def prune(self, *, room_for: int = 0) -> None:
        """Delete the entries used the longest ago until the rest, and so many bytes more, fit into `max_bytes`."""
        now = time.time()  # One of a clock that was ahead counts as used now, not as used later than all others.
        entries = sorted((min(used, now), size, path) for used, size, path in self._entries())
        excess = sum(size for _, size, _ in entries) + room_for - self.max_bytes
        for _, size, path in entries:
            if excess <= 0:
                break
            delete(path)
            excess -= size

    def clear(self) -> CacheInfo:
        """Delete every entry and return what there was."""
        info = self.info()
        for _, _, path in self._entries():
            delete(path)
        return info

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        try:
            paths = list(self.folder.glob(self._pattern))
        except OSError:  # A folder that is gone, or that cannot be read.
            return
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # Another process deleted it.
                continue
            yield status.st_mtime, status.st_size, path


def mark_used(path: Path) -> None:
    """Note that an entry is used now, which decides what is deleted first; one that was deleted stays so."""
    with suppress(OSError):
        os.utime(path)


def delete(path: Path) -> None:
    """Delete a file if there is one that can be deleted."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
