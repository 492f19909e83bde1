"""Store of single answers, in one SQLite file for each source beside the cache of predictions; it survives a crash."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.base.cache import Entries, delete, mark_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.base.cache import PredictionCache

MAX_BYTES = 4 << 30
"""Size above which the least recently used files are deleted."""
_DIGEST = 8
_PATIENCE_S = 10.0
_AT_ONCE = 500
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID"


def answer_files(cache: PredictionCache) -> Entries:
    """Return the files of answers beside a cache of predictions, one for each source."""
    return Entries(cache.folder / "answers", pattern="*.sqlite", max_bytes=MAX_BYTES)


def answers_beside(cache: PredictionCache, source: str) -> Answers:
    """Return the stored answers of a source, by the hash of its identity; old files of others may be deleted."""
    files = answer_files(cache)
    files.prune()
    mark_used(path := files.folder / f"{source}.sqlite")
    return Answers(path)


class Answers:
    """Answers as bytes by keys as bytes; threads and processes may share the file.

    Each answer has a checksum over key and content, so a damaged one counts as absent. If the process is killed, either
    all or no answers of one call of `add` are stored. A damaged file is replaced. Nothing is stored if the folder is
    not writable or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._usable = True

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored answers by key."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            for key, kept in self._rows(f"SELECT key, content FROM answers WHERE key IN ({marks})", some):  # noqa: S608
                if isinstance(kept, bytes) and kept[:_DIGEST] == _digest(key, kept[_DIGEST:]):
                    found[key] = kept[_DIGEST:]
        return found

    def add(self, answers: Mapping[bytes, bytes]) -> None:
        """Store answers."""
        rows = [(key, _digest(key, content) + content) for key, content in answers.items()]
        self._rows("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows, many=True)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Delete the answers of these keys."""
        self._rows("DELETE FROM answers WHERE key = ?", [(key,) for key in keys], many=True)

    def _rows(self, statement: str, values: Sequence[Any], *, many: bool = False) -> list[tuple[bytes, object]]:
        """Return the rows of a statement, by a connection of its own for each thread; none if the file is unusable."""
        for last in (False, True):
            if not self._usable:
                break
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as file, file:
                    file.execute("PRAGMA synchronous = OFF")  # The checksums detect damage by a power loss.
                    file.execute(_TABLE)
                    return (file.executemany if many else file.execute)(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                # A damaged file, or one that is no database, raises exactly this class; a full disk a subclass.
                self._usable = type(error) is sqlite3.DatabaseError and not last
                if self._usable:
                    delete(self.path)
        return []


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST).digest()
