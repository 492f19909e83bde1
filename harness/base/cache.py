"""Caches on disk, by the content of all that decides what they hold: predictions, and what runs found out."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Beyond this size the entries that were used the longest ago are deleted."""
_DIGEST = 32


@dataclass(frozen=True)
class CacheInfo:
    """Size of a cache."""

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


class PredictionCache(Entries):
    """A folder of arrays, and of texts, one file each, named by a hash of what decides them.

    An entry holds the SHA-256 of its name and content, so that one that is damaged, or was copied from another name,
    counts as absent. Entries appear complete or not at all, so that processes may share a folder. A folder that cannot
    be written, or is full, keeps nothing.
    """

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(folder, pattern="*/*.f32", max_bytes=max_bytes)

    @staticmethod
    def of_user() -> PredictionCache:
        """Return the cache in the user's folder."""
        return PredictionCache(user_folder("predictions"))

    def load(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the float32 array kept under the key, None when there is none of this shape or it is damaged."""
        content = self._load(key)
        if content is None or len(content) != 4 * np.prod(shape):
            return None
        return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)

    def store(self, key: str, values: np.ndarray) -> None:
        """Keep a float32 array under the key."""
        self._store(key, np.ascontiguousarray(values, dtype="<f4").tobytes())

    def load_text(self, key: str) -> str | None:
        """Return the text kept under the key, None when there is none or it is damaged."""
        content = self._load(key)
        return None if content is None else content.decode()

    def store_text(self, key: str, text: str) -> None:
        """Keep a text under the key, which no array goes by."""
        self._store(key, text.encode())

    def has(self, key: str) -> bool:
        """Return whether something is kept under the key, be it damaged."""
        return self._path(key).is_file()

    def _load(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            content = read_regular(path, max_bytes=self.max_bytes)
        except OSError:
            return None
        mark_used(path)
        kept = content[_DIGEST:]
        return kept if _digest(key, kept) == content[:_DIGEST] else None

    def _store(self, key: str, content: bytes) -> None:
        try:
            write_atomically(self._path(key), _digest(key, content) + content, durable=False)
        except OSError:
            return  # Predicting again costs time, nothing else.

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.f32"


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()


def installed(packages: Iterable[str]) -> list[str]:
    """Return each of these packages that is installed, with its version: `numpy 2.4.0`."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # Such as a module of the user's.
            continue
    return found
