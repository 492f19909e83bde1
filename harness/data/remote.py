"""Files of data at a URL, which fsspec opens: object storage, servers, whatever it knows; read in parts."""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from harness.base.arrays import ArrayStore
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

_BLOCK = 4 << 20
"""Bytes that are asked for at a time."""
_HELD = 16
"""Blocks that are kept, of those asked for last."""
_VERSIONS = {
    *("etag", "generation", "versionid", "version_id", "blob_id", "lfs", "xet_hash", "checksum", "crc32c", "md5hash"),
    *("content-md5", "content_md5", "digest", "mtime", "ino", "created", "last-modified", "lastmodified"),
    *("last_modified", "modified", "updated", "timemodified"),
}
"""Names that file systems use for the version of a file's content."""
_fetching: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""By URL: threads that need the same block wait for the first of them."""
_FORMAT = 1
"""Of what is kept; another one than theirs is found anew."""


def is_url(text: str) -> bool:
    """Return whether text has the form of a URL."""
    return re.match(r"[A-Za-z][\w+.:-]*://", text) is not None


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL as it was found: its size in bytes, and what tells it from another version, "" if nothing does.

    It can be sent to another process, which reads it there.
    """

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Return the last part of its path."""
        return self.url.partition("?")[0].rstrip("/").rpartition("/")[2]

    def read(self, offset: int, size: int) -> bytes:
        """Return so many bytes from `offset` on, fewer at the end; raises `OSError` where they cannot be had."""
        parts, end = [], min(offset + size, self.size)
        while offset < end:
            with _fetching[self.url]:
                block = _block(self, offset // _BLOCK)
            part = block[offset % _BLOCK :][: end - offset]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def fetch(self, offset: int, size: int) -> bytes:
        """Return so many bytes from `offset` on, asked of the server as they are; raises `OSError` as `read` does."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        system, path = _system_of(self.url)
        try:
            content: bytes = system.cat_file(path, start=offset, end=end)
        except Exception as error:  # Each file system has errors of its own.
            raise OSError(error_text(error)) from error
        if len(content) == self.size != end - offset:
            raise OSError("its server gives files whole, not in parts; download it")
        if len(content) != end - offset:
            raise OSError(
                f"of the {end - offset} bytes from {offset} on came {len(content)}; it has changed, run again"
            )
        return content

    def opened(self, *, blocks: bool) -> BinaryIO:
        """Return it as an open file, in which one can seek, read in `blocks`, or as it is asked for."""
        raw = _Opened(self.read if blocks else self.fetch, self.size)
        return cast("BinaryIO", io.BufferedReader(raw, buffer_size=1 << 16) if blocks else raw)


class _Opened(io.RawIOBase):
    """A remote file, by what reads it and its size, and a position in it."""

    def __init__(self, read: Callable[[int, int], bytes], size: int) -> None:
        self._read, self._size, self._at = read, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer).cast("B")
        content = self._read(self._at, len(into))
        into[: len(content)] = content
        self._at += len(content)
        return len(content)


def remote_file(url: str) -> RemoteFile:
    """Return the file at a URL as it is now; raises `InputError` where there is none, or none that can be read."""
    system, path = _system_of(url)
    try:
        system.invalidate_cache()
        info = system.info(path)
    except Exception as error:  # Each file system has errors of its own.
        raise InputError(f"{url}: cannot be read ({error_text(error)})") from None
    if info.get("type") == "directory":
        raise InputError(f"{url}: is a folder, expected a file")
    if info.get("size") is None:
        raise InputError(f"{url}: its server does not say how large it is, so that no part can be read; download it")
    version = sorted((name, str(value)) for name, value in info.items() if name.casefold() in _VERSIONS and value)
    return RemoteFile(url, int(info["size"]), repr(version) if version else "")


def remote_files(url: str, *, suffix: str) -> list[RemoteFile]:
    """Return what a URL names, in the order of the names: a file, those that a `*` stands for, or a folder's.

    Of a folder these are the files whose names end in `suffix`. Raises `InputError` as `remote_file` does, and where
    there is nothing of this name.
    """
    if url.partition("?")[0].endswith(suffix) and "*" not in url:
        return [remote_file(url)]
    system, path = _system_of(url)
    try:
        system.invalidate_cache()
        pattern = path if "*" in path else f"{path.rstrip('/')}/*{suffix}"
        found = sorted(str(system.unstrip_protocol(name)) for name in system.glob(pattern))
    except Exception as error:  # As above.
        raise InputError(f"{url}: cannot be read ({error_text(error)})") from None
    if not found:
        raise InputError(f"{url}: there is no file there whose name ends in {suffix}")
    return [remote_file(name) for name in found]


def error_text(error: BaseException) -> str:
    """Return what an error of a file system says, or what its server answered, which may be behind it."""
    if (status := getattr(error.__cause__ or error, "status", None)) is not None:
        return f"its server answers {status} {getattr(error.__cause__ or error, 'message', '')}".rstrip()
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"no permission: {text}" if isinstance(error, PermissionError) else text


def _system_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    if "::" in url:
        raise InputError(f"{url}: is a chain of file systems; name the file itself, which is decoded once anyway")
    try:
        import fsspec
    except ImportError:
        raise InputError(
            f"{url}: reading it needs fsspec, which is not installed: pip install 'stress-harness[remote]'"
        ) from None
    protocol = url.partition("://")[0]
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise InputError(
            f"{url}: reading it needs a package that is not installed ({error}): {_install(protocol)}"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{url}: cannot be opened ({error}); expected a URL of a file system that fsspec knows, such as s3, gs, "
            "abfs, hf, https or file"
        ) from None
    except Exception as error:  # As above, such as for want of credentials.
        raise InputError(f"{url}: cannot be opened ({error_text(error)})") from None
    return system, path


def _install(protocol: str) -> str:
    """Return the command that installs what a file system needs."""
    from fsspec.registry import known_implementations

    package = known_implementations.get(protocol, {}).get("class", protocol).partition(".")[0]
    if package != "fsspec":
        return f"pip install {package}"
    extra = "stress-harness[remote]" if protocol in {"http", "https"} else f"fsspec[{protocol}]"
    return f"pip install '{extra}'"


@lru_cache(maxsize=_HELD)
def _block(file: RemoteFile, number: int) -> bytes:
    return file.fetch(number * _BLOCK, _BLOCK)


def kept_facts() -> ArrayStore:
    """Return where such facts are kept."""
    return ArrayStore.of_user("remote")


def found_once(file: RemoteFile, what: str, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `find` does, plain data by name, or what it returned of this version of the file earlier.

    `what` tells one thing that is to be found from others.
    """
    if not file.version:
        return find()
    store, key = kept_facts(), hashlib.sha256(repr((_FORMAT, what, file)).encode()).hexdigest()
    if (kept := store.load(key)) is not None:
        with closing(kept):
            return kept.facts
    found = find()
    with suppress(OSError), store.locked(key), store.making(key, needed=0) as (_, facts):
        facts.update(found)
    return found
