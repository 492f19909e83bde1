"""Labeled pictures before decoding: how to read them, their labels, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.base.errors import DataError, InputError, printable
from harness.base.files import read_regular
from harness.data.remote import RemoteFile, remote_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from harness.data.pipeline import Pipeline

    File = Path | RemoteFile


@contextmanager
def readable(where: object, expected: str) -> Iterator[None]:
    """Turn any error of the block, which reads a file, into an `InputError`; a damaged file may raise any."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        what = getattr(error, "strerror", None) or (
            error if isinstance(error, OSError) else repr(error)
        )
        raise DataError(f"{where}: cannot be read ({what}); {expected}") from None


class PictureRow(Protocol):
    """A picture of a data set; its text names it in messages.

    `file` is the one that holds it, or None if another process cannot read it. Else the row is picklable. `picture`
    returns the bytes of a file, a PIL image, an array or a tensor, and raises `InputError` for an unreadable one.
    Arrays are (H, W) or (H, W, C) uint8, tensors (C, H, W), uint8 or in [0, 1].
    """

    @property
    def file(self) -> File | None: ...
    def picture(self) -> Any: ...  # noqa: D102  The class says it.


@dataclass(frozen=True)
class Item:
    """A picture that `read` returns for its position; `whole` comes before the position in messages."""

    read: Callable[[int], Any]
    position: int
    whole: str = "picture"
    file = None

    def __str__(self) -> str:
        return f"{self.whole} {self.position}"

    def picture(self) -> Any:  # noqa: D102  As of every row.
        return self.read(self.position)

    @staticmethod
    def each(read: Callable[[int], Any], count: int, whole: str) -> MadeRows:
        """Return the items of positions from 0 on."""
        return MadeRows(lambda position: Item(read, position, whole), count)


@dataclass(frozen=True)
class MadeRows(Sequence[PictureRow]):
    """So many rows that `make` makes of their positions when they are asked for: a million would fill the memory."""

    make: Callable[[int], PictureRow]
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self.make(position) for position in range(*at.indices(self.size))]
        return self.make(range(self.size)[at])


@dataclass(frozen=True, eq=False)
class Origin:
    """The rows of a data set by their positions in the full split, whose pictures are read on demand.

    They are bytes of files if `encoded`, else decoded pictures of the data. `pipelines` may have made the images, the
    most detailed first. Without `threads`, pictures are read one at a time.
    """

    rows: Mapping[int, PictureRow] | Sequence[PictureRow]
    pipelines: tuple[Pipeline, ...]
    encoded: bool
    threads: bool = True
    _reading: Any = field(default_factory=threading.Lock, repr=False)

    def picture(self, position: int) -> Any:
        """Return the picture at a position; raises `InputError` for one that cannot be read."""
        with nullcontext() if self.threads else self._reading:
            return self.rows[position].picture()

    def where(self, position: int) -> str:
        """Return the name of the picture at a position, for messages."""
        return str(self.rows[position])


PICTURE_KEYS = ("image", "img", "picture")
LABEL_KEYS = ("label", "labels", "fine_label", "target")
"""Names of the columns of pictures and of labels; the first present one counts."""
MAX_CLASSES = 100_000
"""Largest number of classes; ImageNet-21k has 21,841."""
MAX_BYTES = 256 << 20
"""Largest file of a picture."""
FREE = 256 << 20
"""Bytes of memory that any file may need."""
MAX_EXPANSION = 100
"""Largest ratio of memory to file size above that; JPEG photographs expand about 20 times."""


@dataclass(frozen=True)
class EncodedPicture:
    """The bytes of a picture: a file, or `size` bytes of one from `offset` on, with their `name` in it."""

    file: File
    name: str = ""
    offset: int = 0
    size: int = -1

    def __str__(self) -> str:
        return f"{self.file}: {self.name}" if self.name else str(self.file)

    def picture(self) -> bytes:  # noqa: D102  As of every row.
        with readable(self, "replace or remove it"):
            if isinstance(self.file, RemoteFile):
                return self.file.read(self.offset, self.size)
            if self.size < 0:
                return read_regular(self.file, max_bytes=MAX_BYTES)
            with self.file.open("rb", buffering=0) as opened:
                return os.pread(opened.fileno(), self.size, self.offset)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a data set in a fixed order, with their labels, see `classes_of`.

    Several threads may read the `rows` if `threads`, else one caller in order. `made_of` is a fingerprint of pictures
    and labels, for example of files with their sizes and times; None if unknown. `stored` is their size on disk in
    bytes, None if unknown. `whole` names the data in messages. `names` are those of the classes, None to take them from
    the labels. `masks` is (N, H, W) bool. `foreign` is true if the user's code reads the pictures; their labels are
    then known after them. `groups` gives the group of each picture by column, such as camera, as (N,) text. `array` has
    all pictures in memory, (N, H, W, C) uint8, if they are there.
    """

    rows: Sequence[PictureRow]
    labels: Sequence[Any]
    name: str
    whole: str
    made_of: str | None
    names: Sequence[Any] | None = None
    split: str = "test"
    stored: int | None = None
    masks: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    threads: bool = True
    foreign: bool = False
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    array: np.ndarray | None = None

    @staticmethod
    def of_files(
        files: Sequence[File],
        rows: Sequence[PictureRow] | None = None,
        *,
        whole: str,
        notes: tuple[str, ...] = (),
        **facts: Any,
    ) -> Pictures:
        """Return pictures with the fingerprint of these files, by default one picture in each."""
        made_of, stored = files_as_they_are(files)
        if made_of is None:
            again = "is decoded again in each run, since its server gives no version of a file"
            notes = (*notes, f"{printable(whole)} {again}")
        rows = [*map(EncodedPicture, files)] if rows is None else rows
        return Pictures(rows, whole=whole, made_of=made_of, stored=stored, notes=notes, **facts)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def labelled(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels, (N,) int64, and the names of the classes; the user's code must have read all pictures."""
        return classes_of(self.labels, self.names, where=self.whole)


def files_as_they_are(files: Iterable[File]) -> tuple[str | None, int]:
    """Return a fingerprint of files by paths, sizes and times, and their total size in bytes, each file once.

    Both the modification time and the change time count, since programs can reset the former. Files at a URL count with
    their server's version; the fingerprint is None if a server has no versions.
    """
    digest, known = hashlib.sha256(), True
    sizes: dict[tuple[Any, int], int] = {}
    for file in files:
        if isinstance(file, RemoteFile):
            sizes[file.url, 0], known = file.size, known and bool(file.version)
            facts: tuple[Any, ...] = (file.url, file.size, file.version)
        else:
            status = file.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
            facts = (str(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(json.dumps(facts).encode())
    return digest.hexdigest() if known else None, sum(sizes.values())


def stamp_of(file: File, *, now: bool = True) -> Any:
    """Return a stamp that two files of one name share only if they are equal; None without a file.

    For a file at a URL it is `now` the present one, else the one that was found first.
    """
    try:
        if isinstance(file, RemoteFile):
            return remote_file(file.url) if now else file
        return (status := file.stat()).st_size, status.st_mtime_ns
    except (OSError, ValueError, InputError):
        return None


def classes_of(
    labels: Sequence[Any], names: Sequence[Any] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as (N,) int64 and the names of the classes.

    Integers from 0 are positions in `names`; without names, the numbers name the classes. Texts must be among `names`;
    without names, the sorted texts are the classes. Raises `InputError` for other labels.
    """
    expected = "expected integers from 0, or names of classes"
    if not len(labels):
        raise DataError(f"{where}: is empty; {expected} and a picture each")
    if all(isinstance(label, str) for label in labels):
        known = sorted(set(labels)) if names is None else [str(name) for name in names]
        if strange := sorted(set(labels) - set(known)):
            raise DataError(
                f"{where}: label {strange[0]!r} is none of the classes {', '.join(known)}"
            )
        numbers = {name: number for number, name in enumerate(known)}
        return np.array([numbers[label] for label in labels], dtype=np.int64), tuple(known)
    try:
        values = [int(label) if float(label) == int(label) else -1 for label in labels]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: labels cannot be read ({error}); {expected}") from None
    lowest, highest = min(values), max(values)
    if lowest < 0 or highest >= MAX_CLASSES:
        raise DataError(
            f"{where}: labels run from {lowest} to {highest}; {expected}, below {MAX_CLASSES}"
        )
    classes = tuple(map(str, range(highest + 1) if names is None else names))
    if highest >= len(classes):
        raise DataError(
            f"{where}: labels run to {highest}, but there are {len(classes)} names; name each class"
        )
    if len(set(classes)) != len(classes):
        raise DataError(
            f"{where}: a name occurs twice among the classes {', '.join(classes)}; rename one"
        )
    return np.array(values, dtype=np.int64), classes


def expect_proportion(path: Path | str, *, needed: int, stored: int) -> None:
    """Raise `InputError` if `stored` bytes would need over 100 times as much memory, `needed`."""
    if needed > max(FREE, MAX_EXPANSION * stored):
        raise DataError(
            f"{path}: {stored} bytes claim to hold {needed}, more than {MAX_EXPANSION} times as many; save the images "
            "again, in the model's input size"
        )
