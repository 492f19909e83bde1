"""Regular files read whole, atomic writes, locks, appended lines, and the user's folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import stat
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_PART = 1 << 20
"""Bytes that are hashed at a time."""


def require_regular(path: Path) -> None:
    """Raise `OSError` unless `path` is a regular file.

    Opening anything else may never end.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except ValueError as error:  # The name is invalid.
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if not regular:
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def open_regular(path: Path, *, follow: bool = True) -> io.FileIO:
    """Return a regular file, opened without a buffer; raises `OSError` for anything else.

    A link at the end of the path is followed, unless `follow` is false.
    """
    require_regular(path)
    # Do not block on a FIFO, and check the opened file itself, so nobody can replace it in between.
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    )
    file = io.FileIO(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def read_regular(path: Path, *, max_bytes: int, follow: bool = True) -> bytes:
    """Return the content of a regular file of at most `max_bytes`.

    Raises `OSError` as `open_regular` does.

    Its number is `EFBIG` for a larger file.
    """
    with io.BufferedReader(open_regular(path, follow=follow)) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise _too_large(path, size, max_bytes)
        # Read no more than this size: a growing file, or one that the kernel generates, may have no
        # end.
        return file.read(size)


def _too_large(path: Path, size: int, max_bytes: int) -> OSError:
    said = f"{size} bytes are more than the limit of {max_bytes}"
    return OSError(errno.EFBIG, said, str(path))


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path`; a reader sees all of it or none, also after a crash.

    Without `durable`, the write does not wait for the disk. If the machine stops, the file may be
    truncated.
    """
    with _written_beside(path, content, durable=durable) as temporary:
        temporary.replace(path)


@contextmanager
def _written_beside(path: Path, content: bytes, *, durable: bool = True) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def write_all_or_none(files: Mapping[Path, bytes]) -> None:
    """Write several files as `write_atomically` does, in this order.

    If one fails, restore the others and raise it.

    All are on the disk before the first replaces another, so a full disk changes none.
    """
    before: dict[Path, bytes | None] = {}
    with ExitStack() as stack:
        written = {
            path: stack.enter_context(_written_beside(path, content))
            for path, content in files.items()
        }
        try:
            for path, temporary in written.items():
                before[path] = path.read_bytes() if path.exists() else None
                temporary.replace(path)
        except BaseException:
            for path, content_before in before.items():
                if content_before is None:
                    path.unlink(missing_ok=True)
                else:
                    write_atomically(path, content_before)
            raise


def hash_of_file(path: Path, *, max_bytes: int | None = None) -> str | None:
    """Return the SHA-256 of a regular file's content, None without a file.

    Raises `OSError` as `read_regular` does, also for a file of more than `max_bytes`.
    """
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with io.BufferedReader(open_regular(path)) as file:
        size = os.fstat(file.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            raise _too_large(path, size, max_bytes)
        # As in `read_regular`: a file that the kernel generates, such as /proc/kmsg, may have no
        # end.
        while size > 0 and (part := file.read(min(size, _PART))):
            digest.update(part)
            size -= len(part)
    return digest.hexdigest()


def user_folder(name: str) -> Path:
    """Return the folder of this name in the user's cache directory, which may not exist yet."""
    from platformdirs import user_cache_path

    return user_cache_path("stress-harness") / name


_PATIENCE = 2.0
"""Seconds until a process that waits for a lock says so."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path until the block or this process ends.

    The lock is in the user's folder, so no other file appears beside the path. If that folder is
    not writable, nothing is locked. A process that waits longer prints a line to standard error.
    """
    from filelock import FileLock, Timeout

    folder = user_folder("locks")
    lock = FileLock(
        folder / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.lock"
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        print(f"{path}: another process works on it; waiting for it to end", file=sys.stderr)
        lock.acquire()
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is created if it is missing, under the lock of the path.

    An unfinished line of a killed process stays a line of its own. Raises `OSError` if the line
    cannot be written completely, and leaves the file unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if path.exists():
            require_regular(path)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(descriptor).st_size
            ended = not before or os.pread(descriptor, 1, before - 1) == b"\n"
            content = f"{'' if ended else chr(10)}{line}\n".encode()
            try:
                if os.write(descriptor, content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                os.fsync(descriptor)
            except BaseException:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def numbered_lines(path: Path, *, max_bytes: int) -> list[tuple[int, bytes]]:
    """Return the lines of a file that are not empty, with numbers from 1.

    Raises `OSError` as `read_regular` does.
    """
    content = read_regular(path, max_bytes=max_bytes)
    return [
        (number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()
    ]


_HELD = "STRESS_FOLDERS_HELD"
"""Environment variable with the folders that this process and its parents hold, a list as JSON."""
_descriptors: dict[str, int] = {}


class FolderBusyError(Exception):
    """Another process holds the folder."""


@contextmanager
def held(folder: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder until the block ends; raises `FolderBusyError` if another process has it.

    With `on_wait`, which is called once, wait for the other process instead. The folder itself is
    locked, so no other file appears, and the death of the process releases it. A folder on a file
    system without locks counts as free. Raises `OSError` for a missing one.
    """
    name = os.path.realpath(folder)
    descriptor = os.open(name, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                raise FolderBusyError from None
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # A file system without locks.
            pass
        _descriptors[name] = descriptor
        os.environ[_HELD] = json.dumps([*_held_around(), name])
        try:
            yield
        finally:
            _descriptors.pop(name, None)
            _forget_held(name)
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Return whether this process holds a folder, or one that started it does."""
    name = os.path.realpath(folder)
    return name in _descriptors or name in _held_around()


def holds_any() -> bool:
    """Return whether this process, or one that started it, holds any folder."""
    return bool(_descriptors or _held_around())


def _held_around() -> list[str]:
    try:
        return list(map(str, json.loads(os.environ.get(_HELD, "[]"))))
    except ValueError:
        return []


def _forget_held(name: str) -> None:
    """Take a folder from the list; another thread may have changed the list meanwhile."""
    others = _held_around()
    if name in others:
        others.remove(name)
    if others:
        os.environ[_HELD] = json.dumps(others)
    else:
        os.environ.pop(_HELD, None)


def _forget_in_copy() -> None:
    """Close the descriptors in a fork of this process.

    The fork would otherwise keep the lock after the holder's death.
    """
    while _descriptors:
        os.close(_descriptors.popitem()[1])


os.register_at_fork(after_in_child=_forget_in_copy)
