"""Large arrays kept on disk between runs: one file each, complete or not at all, made by one process at a time."""

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
"""Beyond this size the entries that were used the longest ago are deleted."""
MARGIN = 256 << 20
"""Bytes that are left free on the disk."""
_END = b"stress-arrays-1\n"
_ABANDONED = 86_400
"""Seconds after which what a process left unfinished is deleted."""
_PATIENCE = 2.0


@dataclass(frozen=True)
class ArrayEntry:
    """An entry as it was found: an open file that begins with the arrays, and what was written down of them."""

    file: BinaryIO
    facts: dict[str, Any]
    bytes: int
    """Of the arrays, which stand at the beginning of the file."""

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class ArrayStore(Entries):
    """A folder of arrays, one file each, named by a hash of what they are made of.

    An entry's file ends with facts about the arrays, under a hash of their own; whoever reads the arrays holds them
    against a hash among these. Entries that are being made are locked, so that processes share the work.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(folder, pattern="*.arrays", max_bytes=max_bytes)

    @staticmethod
    def of_user(name: str = "images") -> ArrayStore:
        """Return the decoded images in the user's folder, or what else is kept there under a name."""
        return ArrayStore(user_folder(name))

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Let no other process make this entry meanwhile; raises `OSError` where the folder cannot be written."""
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
        """Return the entry of this key; None where there is none, or one that was cut or does not know its key."""
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
        """Give a file to write the arrays into, and a dict for the facts; afterwards it is the entry of this key.

        Of an exception nothing stays. Raises `OSError` with `ENOSPC` where the disk has no room for `needed` bytes.
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
        """Delete the entries used the longest ago until the rest, and so many bytes more, fit into `max_bytes`."""
        for partial in self.folder.glob(".*.partial"):
            with suppress(FileNotFoundError):  # Another process deleted it.
                if time.time() - partial.stat().st_mtime > _ABANDONED:
                    partial.unlink()
        super().prune(room_for=room_for)

    def clear(self) -> CacheInfo:
        """Delete every entry, and what was left unfinished, and return what there was."""
        info = super().clear()
        for path in [*self.folder.glob(".*.partial"), *self.folder.glob("*.lock")]:
            delete(path)
        return info

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.arrays"


def _end_of(facts: dict[str, Any]) -> bytes:
    """Return the end of a file: facts, their hash, how long they are, and what says that the file is whole."""
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
