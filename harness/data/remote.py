"""Files at a URL, read in parts by fsspec: object storage, web servers and its other file systems."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from harness.base.cache import Store
from harness.base.errors import DataError, PackageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_BLOCK = 4 << 20
"""Bytes of one request."""
_HELD = 4
"""Number of recent files that stay open, and of recent blocks of each in memory."""
_VERSIONS = {
    *(
        "etag",
        "generation",
        "versionid",
        "version_id",
        "blob_id",
        "lfs",
        "xet_hash",
        "checksum",
        "crc32c",
        "md5hash",
    ),
    *(
        "content-md5",
        "content_md5",
        "digest",
        "mtime",
        "ino",
        "created",
        "last-modified",
        "lastmodified",
    ),
    *("last_modified", "modified", "updated", "timemodified"),
}
"""Names that file systems use for the version of a file's content."""
_reading: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""Locks by URL: of several threads that need a block, one fetches it and the others wait."""


def is_url(text: str) -> bool:
    """Return whether text has the form of a URL."""
    return re.match(r"[A-Za-z][\w+.:-]*://", text) is not None


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL: its size in bytes and its version at the first look, "" for a server without versions.

    It is picklable, so another process can read it.
    """

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer at the end; raises `OSError` if they cannot be read."""
        with _reading[self.url]:
            file = _open_file(self)
            file.seek(offset)
            return file.read(size)

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end` by one request; raises `OSError` as `read` does."""
        end = min(end, self.size)
        system, path = _system_of(self.url)
        try:
            content: bytes = system.cat_file(path, start=start, end=end)
        except Exception as error:  # Each file system raises its own exceptions.
            raise OSError(error_text(error)) from error
        if len(content) == self.size != end - start:
            raise OSError("its server sends only whole files, not parts; download it")
        if len(content) != end - start:
            raise OSError(
                f"{len(content)} of {end - start} bytes from {start} on arrived; it has changed, run again"
            )
        return content

    def opened(self, *, blocks: bool) -> BinaryIO:
        """Return an open, seekable file; with `blocks` it reads cached blocks, else each read is a request."""
        from fsspec.spec import AbstractBufferedFile

        class Opened(AbstractBufferedFile):  # type: ignore[misc]
            def _fetch_range(_, start: int, end: int) -> bytes:  # noqa: N805
                return self.fetch(start, end)

        cache, options = ("blockcache", {"maxblocks": _HELD}) if blocks else ("none", {})
        how = {
            "block_size": _BLOCK,
            "size": self.size,
            "cache_type": cache,
            "cache_options": options,
        }
        return cast("BinaryIO", Opened(*_system_of(self.url), **how))


@lru_cache(maxsize=_HELD)
def _open_file(file: RemoteFile) -> BinaryIO:
    return file.opened(blocks=True)


def remote_file(url: str) -> RemoteFile:
    """Return the present file at a URL; raises `InputError` if it is missing or unreadable."""
    info = _asked(url, lambda system, path: system.info(path))
    if info.get("type") == "directory":
        raise DataError(f"{url}: is a folder, expected a file")
    if info.get("size") is None:
        raise DataError(
            f"{url}: its server does not give the size, so no part can be read; download it"
        )
    version = sorted(
        (name, str(value)) for name, value in info.items() if name.casefold() in _VERSIONS and value
    )
    return RemoteFile(url, int(info["size"]), repr(version) if version else "")


def remote_files(url: str, *, suffix: str) -> list[RemoteFile]:
    """Return the files of a URL, sorted by name: one file, the matches of a `*`, or those of a folder.

    In a folder, files count if their names end in `suffix`. Raises `InputError` as `remote_file` does, and if no file
    matches.
    """
    if url.partition("?")[0].endswith(suffix) and "*" not in url:
        return [remote_file(url)]

    def names(system: Any, path: str) -> list[str]:
        pattern = path if "*" in path else f"{path.rstrip('/')}/*{suffix}"
        return sorted(str(system.unstrip_protocol(name)) for name in system.glob(pattern))

    if found := _asked(url, names):
        return [*map(remote_file, found)]
    raise DataError(f"{url}: has no file with a name that ends in {suffix}; correct the URL")


def _asked(url: str, question: Callable[[Any, str], Any]) -> Any:
    """Return what a file system answers now; raises `InputError` for any error."""
    system, path = _system_of(url)
    try:
        system.invalidate_cache()
        return question(system, path)
    except Exception as error:  # Each file system raises its own exceptions.
        raise DataError(f"{url}: cannot be read ({error_text(error)})") from None


def error_text(error: BaseException) -> str:
    """Return the text of a file system's error, or the answer of its server if that is the cause."""
    if (status := getattr(error.__cause__ or error, "status", None)) is not None:
        return f"its server answers {status} {getattr(error.__cause__ or error, 'message', '')}".rstrip()
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"no permission: {text}" if isinstance(error, PermissionError) else text


def _system_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    if "::" in url:
        raise DataError(
            f"{url}: is a chain of file systems; name the file itself, its pictures are cached anyway"
        )
    protocol, needs = url.partition("://")[0], f"{url}: reading it needs"
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError:
        raise PackageError(
            f"{needs} fsspec, which is not installed: pip install 'stress-harness[remote]'"
        ) from None
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", protocol).partition(".")[0]
        extra = "stress-harness[remote]" if protocol in {"http", "https"} else f"fsspec[{protocol}]"
        install = f"pip install {package}" if package != "fsspec" else f"pip install '{extra}'"
        raise PackageError(
            f"{needs} a package that is not installed ({error}): {install}"
        ) from None
    except Exception as error:  # As above, for example without credentials.
        expected = "expected a URL of a file system that fsspec knows, such as s3, gs, abfs, hf, https or file"
        raise DataError(f"{url}: cannot be opened ({error_text(error)}); {expected}") from None


def found_once(file: T, what: str, find: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Return what `find` makes of a file, plain data by name; for a version at a URL seen before, from the cache.

    `what` names the facts that `find` returns, as part of the key.
    """
    if not isinstance(file, RemoteFile) or not file.version:
        return find(file)
    # The number is the version of the facts' format.
    store, key = Store.of_user("remote"), hashlib.sha256(repr((1, what, file)).encode()).hexdigest()
    if (kept := store.content(key)) is not None:
        return dict(json.loads(kept))
    store.keep(
        key, json.dumps(found := find(file)).encode(), {}
    )  # Facts of a file depend on no code of the user's.
    return found
