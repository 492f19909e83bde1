"""Predictions, and what runs found out about themselves, kept on disk by the content of all that decides them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from harness.store.entries import Entries, mark_used
from harness.store.files import read_regular, write_atomically
from harness.store.folder import user_folder

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Beyond this size the entries that were used the longest ago are deleted."""
_DIGEST = 32


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
            write_atomically(self._path(key), _digest(key, content) + content)
        except OSError:
            return  # Predicting again costs time, nothing else.

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.f32"


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + content).digest()
