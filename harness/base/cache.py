"""Caches on disk for predictions and other results of runs, by a hash of all that determines them."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from harness.base.files import read_regular, user_folder, write_atomically
from harness.base.imports import while_unchanged, with_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Size above which the least recently used entries are deleted."""
_DIGEST = 32


@dataclass(frozen=True)
class CacheInfo:
    """Size of a cache."""

    folder: Path
    entries: int
    bytes: int


class Entries:
    """The files of a folder that match `pattern`; processes may share it, and clocks may be wrong.

    A file that cannot be listed, marked as used or deleted is ignored: it costs disk space, but must not end a run.
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
        """Delete the least recently used entries until the rest and `room_for` bytes fit into `max_bytes`."""
        now = time.time()  # A time in the future, by a wrong clock, counts as now, not as the most recent use.
        entries = sorted((min(used, now), size, path) for used, size, path in self._entries())
        excess = sum(size for _, size, _ in entries) + room_for - self.max_bytes
        for _, size, path in entries:
            if excess <= 0:
                break
            delete(path)
            excess -= size

    def clear(self) -> CacheInfo:
        """Delete all entries and return their former size."""
        info = self.info()
        for _, _, path in self._entries():
            delete(path)
        return info

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        try:
            paths = list(self.folder.glob(self._pattern))
        except OSError:  # The folder is missing or unreadable.
            return
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # Another process deleted it.
                continue
            yield status.st_mtime, status.st_size, path


def mark_used(path: Path) -> None:
    """Set the time of an entry's last use to now, for the order of deletion; ignore a deleted entry."""
    with suppress(OSError):
        os.utime(path)


def delete(path: Path) -> None:
    """Delete a file if it exists; ignore errors."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


class PredictionCache(Entries):
    """A folder of arrays and texts, one file each, named by a hash of all that determines them.

    An entry contains the SHA-256 of its name and content, so a damaged or renamed entry counts as absent. So does an
    entry of other user code than that of now; see `imports`. Writes are atomic, so processes may share a folder.
    Nothing is stored if the folder is not writable or the disk is full.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(folder, pattern="*/*.f32", max_bytes=max_bytes)

    @staticmethod
    def of_user() -> PredictionCache:
        """Return the cache in the user's folder."""
        return PredictionCache(user_folder("predictions"))

    def load(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the float32 array of the key; None if it is missing, damaged or of another shape."""
        content = self._load(key)
        if content is None or len(content) != 4 * np.prod(shape):
            return None
        return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)

    def store(self, key: str, values: np.ndarray) -> None:
        """Store a float32 array under the key."""
        self._store(key, np.ascontiguousarray(values, dtype="<f4").tobytes())

    def load_text(self, key: str) -> str | None:
        """Return the text of the key; None if it is missing or damaged."""
        content = self._load(key)
        return None if content is None else content.decode()

    def store_text(self, key: str, text: str) -> None:
        """Store a text under the key, which no array may use."""
        self._store(key, text.encode())

    def has(self, key: str) -> bool:
        """Return whether the key has an entry, intact or damaged."""
        return self._path(key).is_file()

    def _load(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            content = read_regular(path, max_bytes=self.max_bytes)
        except OSError:
            return None
        mark_used(path)
        kept = content[_DIGEST:]
        return while_unchanged(kept) if _digest(key, kept) == content[:_DIGEST] else None

    def _store(self, key: str, content: bytes) -> None:
        content = with_files(content)
        try:
            write_atomically(self._path(key), _digest(key, content) + content, durable=False)
        except OSError:
            return  # A missing entry only costs time.

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.f32"


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def installed(packages: Iterable[str]) -> list[str]:
    """Return the installed ones of these packages with their versions: `numpy 2.4.0`."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # The name may be a module of the user's.
            continue
    return found
