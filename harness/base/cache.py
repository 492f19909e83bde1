"""The store on disk: predictions, images, facts and answers, by a hash of all that decides them."""

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

MAX_BYTES = {
    "predictions": 1 << 30,
    "answers": 4 << 30,
    "images": 32 << 30,
    "remote": 1 << 30,
    "measured": 4 << 30,
    "panel_predictions": 1 << 30,
}
"""Size of each store above which the least recently used entries are deleted."""
MARGIN = 256 << 20
"""Bytes that stay free on the disk."""
_END = b"stress-entry-1\n"
"""The mark of a complete entry, with the version of its format."""
_CHECKSUM, _LENGTH = 32, 8
"""Bytes of the checksum and of the length of the facts."""
_TAIL = _CHECKSUM + _LENGTH + len(_END)
_ABANDONED = 86_400
"""Seconds after which unfinished files are deleted."""
_DIGEST = 8
"""Bytes of the checksum of an answer."""
_KEYS_PER_QUERY = 500
_PATIENCE_S = 10.0
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID"


@dataclass(frozen=True)
class CacheInfo:
    """Size of a store."""

    folder: Path
    entries: int
    bytes: int


@dataclass(frozen=True)
class Entry:
    """An open entry: a file that begins with `bytes` bytes of content, and facts about them."""

    file: BinaryIO
    facts: dict[str, Any]
    bytes: int

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Store:
    """A folder of entries, one file each; processes may share it, and clocks may be wrong.

    A file has content and then facts, among them a hash of the content, with a checksum over name
    and facts. A damaged or renamed entry therefore counts as absent, and so does an entry of
    another version. A short entry also counts as absent if the user's code has changed since, see
    `imports`. Writes are atomic. A file that cannot be listed, marked as used or deleted is
    ignored, because it costs disk space and must not end a run.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = MAX_BYTES["predictions"], suffix: str = ".entry"
    ) -> None:
        self.folder, self.max_bytes, self.suffix = folder, max_bytes, suffix

    @staticmethod
    def of_user(name: str = "predictions", *, suffix: str = ".entry") -> Store:
        """Return the store of this name in the user's folder."""
        return Store(user_folder(name), max_bytes=MAX_BYTES[name], suffix=suffix)

    def path(self, key: str) -> Path:
        """Return the file of a key's entry."""
        return self.folder / f"{key}{self.suffix}"

    def load(self, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return the float32 array of the key; None if missing, damaged or of another shape."""
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
        """Return the entry of this key, whose content the reader must verify.

        None if it is missing or truncated.
        """
        try:
            file = open_regular(self.path(key))
        except OSError:
            return None
        mark_used(self.path(key))
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
        length = int.from_bytes(tail[_CHECKSUM : _CHECKSUM + _LENGTH], "little")
        start = size - _TAIL - length
        if tail.endswith(_END) and start >= 0:
            file.seek(start)
            facts = file.read(length)
            if tail[:_CHECKSUM] == _checksum(key, facts):
                return Entry(cast("BinaryIO", file), json.loads(facts), start)
        file.close()
        return None

    @contextmanager
    def making(self, key: str, *, needed: int) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
        """Yield a file for the content and a dict for the facts, which become the key's entry.

        After an exception nothing remains. Raises `OSError` with `ENOSPC` if the disk has no room
        for `needed` bytes.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prune(room_for=needed)
        free = shutil.disk_usage(self.folder).free
        if free < needed + MARGIN:
            raise OSError(errno.ENOSPC, f"{free / 1e9:.1f} GB are free", str(self.folder))

        # One process at a time makes an entry, so these files are of a process that was killed.
        for _, _, path in self._files(f".{key}.*"):
            delete(path)
        facts: dict[str, Any] = {}
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
        """Delete the least recently used entries until the others and `room_for` bytes fit."""
        now = time.time()
        for used, _, path in self._files(".*.*"):
            if now - used > _ABANDONED:
                delete(path)

        # A time in the future, by a wrong clock, counts as now, not as the most recent use.
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
        """Delete all files, whatever wrote them, and return the former size of the entries."""
        info = self.info()
        for _, _, path in self._files("*"):
            delete(path)
        return info

    @property
    def answers(self) -> Store:
        """Return the store of single answers in this folder, one file for each of their sources."""
        return Store(self.folder / "answers", max_bytes=MAX_BYTES["answers"], suffix=".sqlite")

    def content(self, key: str) -> bytes | None:
        """Return the bytes of the key; None if missing or damaged, or if their code changed."""
        try:
            entry = self.opened(key)
            if entry is None:
                return None
            with closing(entry):
                entry.file.seek(0)
                content = entry.file.read(entry.bytes)
        except OSError:
            return None
        if entry.facts.get("sha256") != hashlib.sha256(content).hexdigest():
            return None
        return content if imports.unchanged(entry.facts.get("code")) else None

    def keep(self, key: str, content: bytes, code: Mapping[str, str]) -> None:
        """Store bytes that this code of the user's made, unless that is impossible.

        The folder may not be writable, or the disk full. A missing entry only costs time.
        """
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "code": code}
        with suppress(OSError):
            write_atomically(self.path(key), content + _end_of(key, facts), durable=False)

    def write(self, key: str, content: bytes) -> Path:
        """Write a file that other code opens by its path, such as an archive, and return the path.

        Raises `OSError` if it cannot be written.
        """
        self.prune(room_for=len(content))
        path = self.path(key)
        write_atomically(path, content)
        return path

    def _files(self, pattern: str) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of the last use, size and path of each file that matches a pattern."""
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
    return text + _checksum(key, text) + len(text).to_bytes(_LENGTH, "little") + _END


def _checksum(key: str, facts: bytes) -> bytes:
    """Return a hash over key and facts, so that an entry under another name counts as damaged."""
    return hashlib.sha256(key.encode() + facts).digest()


def stores_of_user() -> dict[str, Store]:
    """Return the stores in the user's folder, by what their entries are."""
    predictions = Store.of_user()
    return {
        "predictions": predictions,
        "sets of decoded images": Store.of_user("images"),
        "facts about files at URLs": Store.of_user("remote"),
        "files with predictions of servers": predictions.answers,
        "measurements of reference models": Store.of_user("measured"),
        "files with predictions of panels": Store.of_user("panel_predictions", suffix=".npz"),
    }


def mark_used(path: Path) -> None:
    """Set the time of an entry's last use to now, unless the entry was deleted."""
    with suppress(OSError):
        os.utime(path)


def delete(path: Path) -> None:
    """Delete a file if it exists; ignore errors."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


class CachedAnswers:
    """Single answers as bytes by keys as bytes, one file for each source; processes may share it.

    Each answer has a checksum over key and content, so a damaged one counts as absent. If the
    process is killed, either all or no answers of one call of `add` are stored. A damaged file is
    replaced. Nothing is stored if the folder is not writable or the disk is full.
    """

    def __init__(self, cache: Store, source: str) -> None:
        """Open the answers of a source, by the hash of its identity; old files may be deleted."""
        store = cache.answers
        store.prune()
        self.path = store.path(source)
        self._usable = True
        mark_used(self.path)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the stored answers by key."""
        answers: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, content FROM answers WHERE key IN ({marks})"  # noqa: S608
            for key, stored in self._rows(query, part):
                if not isinstance(stored, bytes):
                    continue
                digest, content = stored[:_DIGEST], stored[_DIGEST:]
                if digest == _digest(key, content):
                    answers[key] = content
        return answers

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
        """Return the rows of a statement; none if the file is unusable.

        A damaged file is deleted, and the statement runs once more on a new one.
        """
        for is_last in (False, True):
            if not self._usable:
                break
            try:
                return self._executed(statement, values, many=many)
            except (sqlite3.Error, OSError) as error:
                # A damaged file, or one that is no database, raises exactly this class; a full disk
                # raises a subclass.
                self._usable = type(error) is sqlite3.DatabaseError and not is_last
                if self._usable:
                    delete(self.path)
        return []

    def _executed(
        self, statement: str, values: Sequence[Any], *, many: bool
    ) -> list[tuple[bytes, object]]:
        """Execute a statement by a connection of its own, since a thread cannot use another's."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE_S)) as database, database:
            # The checksums detect damage by a power loss.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(_TABLE)
            execute = database.executemany if many else database.execute
            return execute(statement, values).fetchall()


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST).digest()


def installed(packages: Iterable[str]) -> list[str]:
    """Return the installed ones of these packages with their versions: `numpy 2.4.0`."""
    versions: list[str] = []
    for name in packages:
        with suppress(PackageNotFoundError):  # The name may be a module of the user's.
            versions.append(f"{name} {version(name)}")
    return versions
