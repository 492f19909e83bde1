"""Files at a URL, read in parts by fsspec: object storage, web servers, other file systems."""

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
    "content-md5",
    "content_md5",
    "digest",
    "mtime",
    "ino",
    "created",
    "last-modified",
    "lastmodified",
    "last_modified",
    "modified",
    "updated",
    "timemodified",
}
"""Names that file systems use for the version of a file's content."""
_reading: dict[str, threading.Lock] = defaultdict(threading.Lock)
"""Locks by URL: of several threads that need a block, one fetches it and the others wait."""


def is_url(text: str) -> bool:
    """Return whether text has the form of a URL."""
    return re.match(r"[A-Za-z][\w+.:-]*://", text) is not None


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL as it was at the first look; picklable, so another process can read it.

    Attributes:
        url: Its URL.
        size: Its size in bytes.
        version: Its version, empty for a server without versions.
    """

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset` on, fewer at the end; raises `OSError`."""
        with _reading[self.url]:
            file = _open_file(self)
            file.seek(offset)
            return file.read(size)

    def fetch(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end` by one request; raises `OSError`."""
        end = min(end, self.size)
        length = end - start
        system, path = _system_of(self.url)
        try:
            content: bytes = system.cat_file(path, start=start, end=end)
        except Exception as error:  # Each file system raises its own exceptions.
            raise OSError(error_text(error)) from error
        if len(content) == length:
            return content
        if len(content) == self.size:
            raise OSError("its server sends only whole files, not parts; download it")
        raise OSError(
            f"{len(content)} of {length} bytes from {start} on arrived; it has changed, run again"
        )

    def opened(self, *, blocks: bool) -> BinaryIO:
        """Return an open, seekable file.

        With `blocks` it reads cached blocks, else each read is a request.
        """
        from fsspec.spec import AbstractBufferedFile

        class Opened(AbstractBufferedFile):  # type: ignore[misc]
            def _fetch_range(_, start: int, end: int) -> bytes:  # noqa: N805
                return self.fetch(start, end)

        system, path = _system_of(self.url)
        settings: dict[str, Any] = {"block_size": _BLOCK, "size": self.size, "cache_type": "none"}
        if blocks:
            settings |= {"cache_type": "blockcache", "cache_options": {"maxblocks": _HELD}}
        return cast("BinaryIO", Opened(system, path, **settings))


@lru_cache(maxsize=_HELD)
def _open_file(file: RemoteFile) -> BinaryIO:
    return file.opened(blocks=True)


def remote_file(url: str) -> RemoteFile:
    """Return the present file at a URL; raises `InputError` if it is missing or unreadable."""
    info = _answer(url, lambda system, path: system.info(path))
    if info.get("type") == "directory":
        raise DataError(f"{url}: is a folder, expected a file")
    if info.get("size") is None:
        raise DataError(
            f"{url}: its server does not give the size, so no part can be read; download it"
        )
    versions = []
    for name, value in info.items():
        if name.casefold() in _VERSIONS and value:
            versions.append((name, str(value)))
    version = ""
    if versions:
        version = repr(sorted(versions))
    return RemoteFile(url, int(info["size"]), version)


def remote_files(url: str, *, suffix: str) -> list[RemoteFile]:
    """Return the files of a URL, sorted by name: one file, the matches of a `*`, or a folder's.

    In a folder, files count if their names end in `suffix`. Raises `InputError` as `remote_file`
    does, and if no file matches.
    """
    if url.partition("?")[0].endswith(suffix) and "*" not in url:
        return [remote_file(url)]

    def matching_urls(system: Any, path: str) -> list[str]:
        pattern = path
        if "*" not in path:
            pattern = f"{path.rstrip('/')}/*{suffix}"
        return sorted(str(system.unstrip_protocol(name)) for name in system.glob(pattern))

    urls = _answer(url, matching_urls)
    if not urls:
        raise DataError(f"{url}: has no file with a name that ends in {suffix}; correct the URL")
    return [remote_file(url) for url in urls]


def _answer(url: str, question: Callable[[Any, str], Any]) -> Any:
    """Return what a file system answers now to a question about it and a path in it.

    Raises `InputError` for any error of the file system.
    """
    system, path = _system_of(url)
    try:
        system.invalidate_cache()
        return question(system, path)
    except Exception as error:  # Each file system raises its own exceptions.
        raise DataError(f"{url}: cannot be read ({error_text(error)})") from None


def error_text(error: BaseException) -> str:
    """Return the text of a file system's error, or its server's answer if that is the cause."""
    response = error.__cause__ or error
    status = getattr(response, "status", None)
    if status is not None:
        return f"its server answers {status} {getattr(response, 'message', '')}".rstrip()
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return f"no permission: {text}"
    return text


def _system_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it; raises `InputError` without one."""
    if "::" in url:
        raise DataError(
            f"{url}: is a chain of file systems; name the file itself, "
            "its pictures are cached anyway"
        )
    try:
        import fsspec
    except ImportError:
        raise PackageError(
            f"{url}: reading it needs fsspec, which is not installed: "
            "pip install 'stress-harness[remote]'"
        ) from None
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except ImportError as error:
        raise PackageError(
            f"{url}: reading it needs a package that is not installed ({error}): "
            f"pip install {_package_of(url)}"
        ) from None
    except Exception as error:  # Each file system raises its own, for example without credentials.
        raise DataError(
            f"{url}: cannot be opened ({error_text(error)}); expected a URL of a file system that "
            "fsspec knows, such as s3, gs, abfs, hf, https or file"
        ) from None


def _package_of(url: str) -> str:
    """Return the package that has the file system of a URL, as pip takes it on a command line."""
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0]
    if protocol in {"http", "https"}:
        return "'stress-harness[remote]'"
    class_path = known_implementations.get(protocol, {}).get("class", protocol)
    package = class_path.partition(".")[0]
    if package == "fsspec":
        return f"'fsspec[{protocol}]'"
    return str(package)


def found_once(file: T, what: str, find: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Return facts about a file, from the cache for a version at a URL that was seen before.

    Args:
        file: The file.
        what: The name of the facts, as part of the cache's key.
        find: Returns the facts, plain data by name. They must depend on no code of the user's.
    """
    if not isinstance(file, RemoteFile) or not file.version:
        return find(file)
    store = Store.of_user("remote")
    # The number is the version of the facts' format.
    key = hashlib.sha256(repr((1, what, file)).encode()).hexdigest()
    content = store.content(key)
    if content is not None:
        return dict(json.loads(content))

    facts = find(file)
    store.keep(key, json.dumps(facts).encode(), {})
    return facts
