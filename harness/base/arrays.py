"""Store of large arrays on disk: one atomic file for each entry, made by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.base.cache import CacheInfo, Entries, delete, mark_used
from harness.base.files import user_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 32 << 30
"""Size above which the least recently used entries are deleted."""
MARGIN = 256 << 20
"""Bytes that stay free on the disk."""
_END = b"stress-arrays-1\n"
_ABANDONED = 86_400
"""Seconds after which unfinished files are deleted."""
_PATIENCE = 2.0


@dataclass(frozen=True)
class ArrayEntry:
    """An open entry: a file that begins with the arrays, and the facts about them."""

    file: BinaryIO
    facts: dict[str, Any]
    bytes: int
    """Size of the arrays at the beginning of the file."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class ArrayStore(Entries):
    """A folder of entries, one file each, named by a hash of the arrays' sources.

    An entry's file ends with facts about the arrays, protected by a hash. The facts include a hash of the arrays, which
    the reader must verify. A lock protects an unfinished entry, so no two processes make the same one.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(folder, pattern="*.arrays", max_bytes=max_bytes)

    @staticmethod
    def of_user(name: str = "images") -> ArrayStore:
        """Return the store of decoded images in the user's folder, or another store there by its name."""
        return ArrayStore(user_folder(name))

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Lock this entry against other processes; raises `OSError` if the folder is not writable."""
        from filelock import FileLock, Timeout

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / f"{key}.lock")
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            print("waiting for another process that reads the same images", file=sys.stderr)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def load(self, key: str) -> ArrayEntry | None:
        """Return the entry of this key; None if it is missing, truncated, or of another key."""
        try:
            file = self._path(key).open("rb", buffering=0)
        except OSError:
            return None
        kept = _read_end(file)
        if kept is None or kept.facts.get("key") != key:
            file.close()
            return None
        mark_used(self._path(key))
        return kept

    @contextmanager
    def making(self, key: str, *, needed: int) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
        """Yield a file for the arrays and a dict for the facts; at the end they become the entry of this key.

        After an exception nothing remains. Raises `OSError` with `ENOSPC` if the disk has no room for `needed` bytes.
        """
        import shutil

        self.folder.mkdir(parents=True, exist_ok=True)
        self.prune(room_for=needed)
        if (free := shutil.disk_usage(self.folder).free) < needed + MARGIN:
            raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB are free", str(self.folder))
        partial, facts = self.folder / f".{key}.partial", {"key": key}
        try:
            with partial.open("wb") as file:
                yield file, facts
                file.write(_end_of(facts))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path(key))
        finally:
            partial.unlink(missing_ok=True)

    def prune(self, *, room_for: int = 0) -> None:
        """Delete the least recently used entries until the rest and `room_for` bytes fit into `max_bytes`."""
        for partial in self.folder.glob(".*.partial"):
            with suppress(FileNotFoundError):  # Another process deleted it.
                if time.time() - partial.stat().st_mtime > _ABANDONED:
                    partial.unlink()
        super().prune(room_for=room_for)

    def clear(self) -> CacheInfo:
        """Delete all entries and unfinished files, and return the former size."""
        info = super().clear()
        for path in [*self.folder.glob(".*.partial"), *self.folder.glob("*.lock")]:
            delete(path)
        return info

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.arrays"


def _end_of(facts: dict[str, Any]) -> bytes:
    """Return the end of a file: facts, their hash, their length, and a mark of completeness."""
    text = json.dumps(facts).encode()
    return text + hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + _END


def _read_end(file: BinaryIO) -> ArrayEntry | None:
    size = file.seek(0, os.SEEK_END)
    tail = 32 + 8 + len(_END)
    if size < tail:
        return None
    file.seek(size - tail)
    digest, length, end = (read := file.read(tail))[:32], int.from_bytes(read[32:40], "little"), read[40:]
    if end != _END or length > size - tail:
        return None
    file.seek(size - tail - length)
    text = file.read(length)
    return ArrayEntry(file, json.loads(text), size - tail - length) if hashlib.sha256(text).digest() == digest else None
