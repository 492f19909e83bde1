"""Labeled pictures before decoding: how to read them, their labels, and their fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from contextlib import contextmanager
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
    """Turn any error of the block, which reads a file, into an `InputError`.

    A damaged file may raise any exception. `expected` ends the message.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise DataError(
            f"{where}: cannot be read ({error.strerror or error}); {expected}"
        ) from None
    except Exception as error:
        reason = getattr(error, "strerror", None) or repr(error)
        raise DataError(f"{where}: cannot be read ({reason}); {expected}") from None


class PictureRow(Protocol):
    """A picture of a data set; its text names it in messages."""

    @property
    def file(self) -> File | None:
        """Return the file that holds it, or None if another process cannot read it.

        A row with a file is picklable.
        """

    def picture(self) -> Any:
        """Return the bytes of a file, a PIL image, an array or a tensor.

        Arrays are (H, W) or (H, W, C) uint8, tensors (C, H, W), uint8 or in [0, 1]. Raises
        `InputError` for an unreadable picture.
        """


@dataclass(frozen=True)
class Item:
    """A picture that `read` returns for its position.

    `whole` comes before the position in messages.
    """

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
    """Rows that `make` makes of their positions at their use: a million would fill the memory."""

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
    """The pictures behind images, which are read on demand.

    Attributes:
        rows: The rows of the data set by their positions in the full split.
        pipelines: Pipelines that may have made the images, the most detailed first.
        encoded: Whether pictures are the bytes of files, and not decoded pictures of the data.
        threads: Whether several threads may read pictures; if not, they are read one at a time.
    """

    rows: Mapping[int, PictureRow] | Sequence[PictureRow]
    pipelines: tuple[Pipeline, ...]
    encoded: bool
    threads: bool = True
    _reading: Any = field(default_factory=threading.Lock, repr=False)

    def picture(self, position: int) -> Any:
        """Return the picture at a position; raises `InputError` for one that cannot be read."""
        if self.threads:
            return self.rows[position].picture()
        with self._reading:
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
    """The bytes of a picture: a file, or `size` bytes of it from `offset` on.

    `name` is their name in the file, such as a shard.
    """

    file: File
    name: str = ""
    offset: int = 0
    size: int = -1

    def __str__(self) -> str:
        if self.name:
            return f"{self.file}: {self.name}"
        return str(self.file)

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
    """Pictures of a data set in a fixed order, with their labels.

    Attributes:
        rows: The pictures, N.
        labels: Their labels, see `classes_of`.
        name: The name of the data set.
        whole: The name of the data in messages.
        made_of: A fingerprint of pictures and labels, for example of files with their sizes and
            times; None if unknown.
        names: The names of the classes, None to take them from the labels.
        split: The name of the split.
        stored: Their size on disk in bytes, None if unknown.
        masks: Object masks, (N, H, W) bool.
        notes: Lines about how the pictures were found.
        threads: Whether several threads may read the rows; if not, one caller reads them in order.
        foreign: Whether the user's code reads the pictures; their labels are then known after them.
        groups: The group of each picture by column, such as camera, as (N,) text.
        array: All pictures, (N, H, W, C) uint8, if they are in memory.
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
        if rows is None:
            rows = [EncodedPicture(file) for file in files]
        return Pictures(rows, whole=whole, made_of=made_of, stored=stored, notes=notes, **facts)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def labelled(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels, (N,) int64, and the names of the classes.

        If the user's code reads the pictures, it must have read all of them before.
        """
        return classes_of(self.labels, self.names, where=self.whole)


def files_as_they_are(files: Iterable[File]) -> tuple[str | None, int]:
    """Return a fingerprint of files by paths, sizes and times, and their total size in bytes.

    Each file counts once. Both the modification time and the change time count, since programs can
    reset the former. Files at a URL count with their server's version; the fingerprint is None if a
    server has no versions.
    """
    digest = hashlib.sha256()
    has_versions = True
    sizes: dict[tuple[Any, int], int] = {}
    for file in files:
        if isinstance(file, RemoteFile):
            has_versions = has_versions and bool(file.version)
            sizes[file.url, 0] = file.size
            facts: tuple[Any, ...] = (file.url, file.size, file.version)
        else:
            status = file.stat()
            sizes[status.st_dev, status.st_ino] = status.st_size
            facts = (str(file.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest.update(json.dumps(facts).encode())
    size = sum(sizes.values())
    if not has_versions:
        return None, size
    return digest.hexdigest(), size


def stamp_of(file: File, *, now: bool = True) -> Any:
    """Return a stamp that two files of one name share only if they are equal; None without a file.

    For a file at a URL it is the present file, or the file at its first look if not `now`.
    """
    try:
        if not isinstance(file, RemoteFile):
            status = file.stat()
            return status.st_size, status.st_mtime_ns
        if not now:
            return file
        return remote_file(file.url)
    except (OSError, ValueError, InputError):
        return None


_EXPECTED_LABELS = "expected integers from 0, or names of classes"


def classes_of(
    labels: Sequence[Any], names: Sequence[Any] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as (N,) int64 and the names of the classes.

    Args:
        labels: Integers from 0, which are positions in `names`, or texts, which must be among
            `names`.
        names: The names of the classes. Without them, the numbers name the classes, or the sorted
            texts are the classes.
        where: The name of the data in messages.

    Raises:
        InputError: There are other labels, or a name occurs twice.
    """
    if not len(labels):
        raise DataError(f"{where}: is empty; {_EXPECTED_LABELS} and a picture each")
    if all(isinstance(label, str) for label in labels):
        return _classes_of_texts(labels, names, where=where)

    values = _whole_numbers(labels, where=where)
    lowest, highest = min(values), max(values)
    if lowest < 0 or highest >= MAX_CLASSES:
        raise DataError(
            f"{where}: labels run from {lowest} to {highest}; {_EXPECTED_LABELS}, "
            f"below {MAX_CLASSES}"
        )
    if names is None:
        names = range(highest + 1)
    classes = tuple(str(name) for name in names)
    if highest >= len(classes):
        raise DataError(
            f"{where}: labels run to {highest}, but there are {len(classes)} names; name each class"
        )
    if len(set(classes)) != len(classes):
        raise DataError(
            f"{where}: a name occurs twice among the classes {', '.join(classes)}; rename one"
        )
    return np.array(values, dtype=np.int64), classes


def _classes_of_texts(
    labels: Sequence[str], names: Sequence[Any] | None, *, where: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    if names is None:
        names = sorted(set(labels))
    classes = [str(name) for name in names]
    strange = sorted(set(labels) - set(classes))
    if strange:
        raise DataError(
            f"{where}: label {strange[0]!r} is none of the classes {', '.join(classes)}"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[label] for label in labels], dtype=np.int64), tuple(classes)


def _whole_numbers(labels: Sequence[Any], *, where: str) -> list[int]:
    """Return labels as integers, -1 for a fraction; raises `InputError` for other values."""
    numbers = []
    try:
        for label in labels:
            if float(label) == int(label):
                numbers.append(int(label))
            else:
                numbers.append(-1)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: labels cannot be read ({error}); {_EXPECTED_LABELS}") from None
    return numbers


def expect_proportion(path: Path | str, *, needed: int, stored: int) -> None:
    """Raise `InputError` if `stored` bytes would need over 100 times as much memory, `needed`."""
    if needed > max(FREE, MAX_EXPANSION * stored):
        raise DataError(
            f"{path}: {stored} bytes claim to hold {needed}, more than {MAX_EXPANSION} times as "
            "many; save the images again, in the model's input size"
        )
