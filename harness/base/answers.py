"""Store of single answers, in one SQLite file for each source; it survives a crash."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from harness.base.cache import Entries, mark_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.base.cache import PredictionCache

MAX_BYTES = 4 << 30
"""Size above which the least recently used files are deleted."""
_DIGEST = 8
_PATIENCE_S = 10.0
_SUFFIX = ".sqlite"
_AT_ONCE = 500


class AnswerStore(Entries):
    """A folder of answers, with one file per source, named by the hash of the source's identity."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(folder, pattern=f"*{_SUFFIX}", max_bytes=max_bytes)

    @staticmethod
    def beside(cache: PredictionCache) -> AnswerStore:
        """Return the store beside a cache of predictions."""
        return AnswerStore(cache.folder / "answers")

    def of(self, source: str) -> Answers:
        """Return the answers of a source, by its hash."""
        path = self.folder / f"{source}{_SUFFIX}"
        mark_used(path)
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
        found: list[tuple[bytes, object]] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found += self._rows(f"SELECT key, content FROM answers WHERE key IN ({marks})", some)  # noqa: S608
        kept = {key: content for key, content in found if isinstance(content, bytes)}
        return {key: each[_DIGEST:] for key, each in kept.items() if each[:_DIGEST] == _digest(key, each[_DIGEST:])}

    def add(self, answers: Mapping[bytes, bytes]) -> None:
        """Store answers."""
        rows = [(key, _digest(key, content) + content) for key, content in answers.items()]
        self._rows("INSERT OR REPLACE INTO answers VALUES (?, ?)", rows, many=True)

    def drop(self, keys: Iterable[bytes]) -> None:
        """Delete the answers of these keys."""
        self._rows("DELETE FROM answers WHERE key = ?", [(key,) for key in keys], many=True)

    def _rows(self, statement: str, values: Sequence[Any], *, many: bool = False) -> list[tuple[bytes, object]]:
        """Return the rows of a statement; none if the file is unusable."""
        for damaged in (False, True):
            if not self._usable:
                break
            try:
                if damaged:
                    self.path.unlink(missing_ok=True)
                with self._opened() as file, file:
                    run = file.executemany if many else file.execute
                    return run(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                # A damaged file, or one that is no database, raises exactly this class; a full disk a subclass.
                self._usable = type(error) is sqlite3.DatabaseError and not damaged
        return []

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one statement, since each belongs to one thread, and opening is fast."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as file:
            file.execute("PRAGMA synchronous = OFF")  # The checksums detect damage by a power loss.
            file.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID")
            yield file


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST).digest()
