"""The store on disk: predictions, decoded images, facts and single answers, by a hash of all that determines them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from harness.base import imports
from harness.base.files import open_regular, user_folder, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_BYTES = {"predictions": 1 << 30, "answers": 4 << 30, "images": 32 << 30}
"""Size of each store of the user's above which the least recently used entries are deleted."""
MARGIN = 256 << 20
"""Bytes that stay free on the disk."""
_END = b"stress-entry-1\n"
_TAIL = 32 + 8 + len(_END)
_OF_EARLIER_VERSIONS = ("*.arrays", "??/*.f32")
_ABANDONED = 86_400
"""Seconds after which unfinished files are deleted."""
_DIGEST, _AT_ONCE, _PATIENCE_S = 8, 500, 10.0
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID"


@dataclass(frozen=True)
class CacheInfo:
    """Size of a store."""

    folder: Path
    entries: int
    bytes: int


@dataclass(frozen=True)
class Entry:
    """An open entry: a file that begins with so many `bytes` of content, and the facts about them."""

    file: BinaryIO
    facts: dict[str, Any]
    bytes: int

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Store:
    """A folder of entries, one file each; processes may share it, and clocks may be wrong.

    A file has content and then facts, among them a hash of the content, with a checksum over name and facts. A damaged
    or renamed entry therefore counts as absent. So does a short entry of other user code than that of now; see
    `imports`. Writes are atomic. A file that cannot be listed, marked as used or deleted is ignored: it costs disk
    space, but must not end a run.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES["predictions"], suffix: str = ".entry"
    ) -> None:
        self.folder, self.max_bytes, self.suffix = folder, max_bytes, suffix

    @staticmethod
    def of_user(name: str = "predictions") -> Store:
        """Return the store of this name in the user's folder."""
        return Store(user_folder(name), max_bytes=MAX_BYTES.get(name, MAX_BYTES["images"]))

    def path(self, key: str) -> Path:
        """Return the file of a key's entry."""
        return self.folder / f"{key}{self.suffix}"

    def load(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the float32 array of the key; None if it is missing, damaged or of another shape."""
        content = self.content(key)
        if content is None or len(content) != 4 * np.prod(shape):
            return None
        return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)

    def store(self, key: str, values: np.ndarray) -> None:
        """Store a float32 array under the key, see `keep`."""
        self.keep(key, np.ascontiguousarray(values, dtype="<f4").tobytes(), imports.files())

    def load_text(self, key: str) -> str | None:
        """Return the text of the key; None if it is missing or damaged."""
        content = self.content(key)
        return None if content is None else content.decode()

    def store_text(self, key: str, text: str) -> None:
        """Store a text under the key, which no array may use."""
        self.keep(key, text.encode(), imports.files())

    def opened(self, key: str) -> Entry | None:
        """Return the entry of this key, whose content the reader must verify; None if it is missing or truncated."""
        try:
            file = open_regular(self.path(key))
        except OSError:
            return None
        mark_used(self.path(key))
        start, size = 0, file.seek(0, os.SEEK_END)
        if size >= _TAIL:
            file.seek(size - _TAIL)
            digest, length, end = (
                (tail := file.read(_TAIL))[:32],
                int.from_bytes(tail[32:40], "little"),
                tail[40:],
            )
            start = size - _TAIL - length
            if end == _END and start >= 0:
                file.seek(start)
                facts = file.read(length)
                if hashlib.sha256(key.encode() + facts).digest() == digest:
                    return Entry(cast("BinaryIO", file), json.loads(facts), start)
        file.close()
        return None

    @contextmanager
    def making(self, key: str, *, needed: int) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
        """Yield a file for the content and a dict for the facts; at the end they become the entry of this key.

        After an exception nothing remains. Raises `OSError` with `ENOSPC` if the disk has no room for `needed` bytes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prune(room_for=needed)
        if (free := shutil.disk_usage(self.folder).free) < needed + MARGIN:
            raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB are free", str(self.folder))
        facts: dict[str, Any] = {}
        for _, _, left in self._files(
            f".{key}.*"
        ):  # Of a process that was killed: one at a time makes an entry.
            delete(left)
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=f".{key}.", delete=False) as file:
            partial = Path(file.name)
            try:
                yield file, facts  # type: ignore[misc]
                file.write(_end_of(key, facts))
                file.flush()
                os.fsync(file.fileno())
                partial.chmod(0o644)
                partial.replace(self.path(key))
            finally:
                partial.unlink(missing_ok=True)

    def has(self, key: str) -> bool:
        """Return whether the key has an entry, intact or damaged."""
        return self.path(key).is_file()

    def info(self) -> CacheInfo:
        """Return the number and size of the entries."""
        sizes = [size for _, size, _ in self._files(f"*{self.suffix}")]
        return CacheInfo(self.folder, len(sizes), sum(sizes))

    def prune(self, *, room_for: int = 0) -> None:
        """Delete the least recently used entries until the rest and `room_for` bytes fit into `max_bytes`."""
        now = (
            time.time()
        )  # A time in the future, by a wrong clock, counts as now, not as the most recent use.
        for used, _, path in self._files(".*.*"):
            if now - used > _ABANDONED:
                delete(path)
        for pattern in _OF_EARLIER_VERSIONS:
            for _, _, path in self._files(pattern):
                delete(path)
        entries = sorted(
            (min(used, now), size, path) for used, size, path in self._files(f"*{self.suffix}")
        )
        excess = sum(size for _, size, _ in entries) + room_for - self.max_bytes
        for _, size, path in entries:
            if excess <= 0:
                break
            delete(path)
            excess -= size

    def clear(self) -> CacheInfo:
        """Delete all entries, unfinished files and files of earlier versions, and return the former size."""
        info = self.info()
        for _, _, path in [*self._files("*"), *self._files("??/*")]:
            delete(path)
        return info

    @property
    def answers(self) -> Store:
        """Return the store of single answers in this folder, with one file for each of their sources."""
        return Store(self.folder / "answers", max_bytes=MAX_BYTES["answers"], suffix=".sqlite")

    def content(self, key: str) -> bytes | None:
        """Return the bytes of the key; None if they are missing or damaged, or if their code has changed."""
        with suppress(OSError):
            if (entry := self.opened(key)) is not None:
                with closing(entry):
                    entry.file.seek(0)
                    content = entry.file.read(entry.bytes)
                same = entry.facts.get("sha256") == hashlib.sha256(content).hexdigest()
                return content if same and imports.unchanged(entry.facts.get("code")) else None
        return None

    def keep(self, key: str, content: bytes, code: Mapping[str, str]) -> None:
        """Store bytes that this code of the user's made, unless the folder is not writable or the disk is full."""
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "code": code}
        with suppress(OSError):  # A missing entry only costs time.
            write_atomically(self.path(key), content + _end_of(key, facts), durable=False)

    def _files(self, pattern: str) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of the last use, the size and the path of each file that matches a pattern."""
        try:
            paths = list(self.folder.glob(pattern))
        except OSError:  # The folder is missing or unreadable.
            return
        for path in paths:
            with suppress(OSError):  # Another process deleted it.
                status = path.stat()
                yield status.st_mtime, status.st_size, path


def _end_of(key: str, facts: Mapping[str, Any]) -> bytes:
    """Return the end of a file: facts, the checksum, their length, and a mark of completeness."""
    text = json.dumps(facts).encode()
    return (
        text + hashlib.sha256(key.encode() + text).digest() + len(text).to_bytes(8, "little") + _END
    )


def mark_used(path: Path) -> None:
    """Set the time of an entry's last use to now, for the order of deletion; ignore a deleted entry."""
    with suppress(OSError):
        os.utime(path)


def delete(path: Path) -> None:
    """Delete a file if it exists; ignore errors."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


class Answers:
    """Single answers as bytes by keys as bytes, in one file for each source; threads and processes may share it.

    Each answer has a checksum over key and content, so a damaged one counts as absent. If the process is killed, either
    all or no answers of one call of `add` are stored. A damaged file is replaced. Nothing is stored if the folder is
    not writable or the disk is full.
    """

    def __init__(self, cache: Store, source: str) -> None:
        """Open the answers of a source, by the hash of its identity; old files of others may be deleted."""
        cache.answers.prune()
        self.path, self._usable = cache.answers.path(source), True
        mark_used(self.path)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored answers by key."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, content FROM answers WHERE key IN ({marks})"  # noqa: S608
            for key, kept in self._rows(query, some):
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

    def _rows(
        self, statement: str, values: Sequence[Any], *, many: bool = False
    ) -> list[tuple[bytes, object]]:
        """Return the rows of a statement, by a connection of its own for each thread; none if the file is unusable."""
        for last in (False, True):
            if not self._usable:
                break
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as file, file:
                    file.execute(
                        "PRAGMA synchronous = OFF"
                    )  # The checksums detect damage by a power loss.
                    file.execute(_TABLE)
                    return (file.executemany if many else file.execute)(
                        statement, values
                    ).fetchall()
            except (sqlite3.Error, OSError) as error:
                # A damaged file, or one that is no database, raises exactly this class; a full disk a subclass.
                self._usable = type(error) is sqlite3.DatabaseError and not last
                if self._usable:
                    delete(self.path)
        return []


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST).digest()


def installed(packages: Iterable[str]) -> list[str]:
    """Return the installed ones of these packages with their versions: `numpy 2.4.0`."""
    found = []
    for name in packages:
        with suppress(PackageNotFoundError):  # The name may be a module of the user's.
            found.append(f"{name} {version(name)}")
    return found
