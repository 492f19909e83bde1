"""Labelled pictures that are still to be decoded: what a source of data knows how to read, and may ask memory for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, printable
from harness.data.remote import RemoteFile, remote_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    File = Path | RemoteFile

PICTURE_KEYS = ("image", "img", "picture")
LABEL_KEYS = ("label", "labels", "fine_label", "target")
"""Names of the columns of pictures and of labels; the first present one counts."""
MAX_CLASSES = 100_000
"""Labels run below this: ImageNet-21k has 21,841 classes."""
FREE = 256 << 20
"""Bytes that anything may ask for."""
MAX_EXPANSION = 100
"""Largest expansion of a file beyond that, in times its size; photographs as JPEG expand about 20 times."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures of a data set in a fixed order, read one by one, with their true classes.

    `read` returns the picture at a position: a PIL image, an array (H, W) or (H, W, C) uint8, or a tensor (C, H, W),
    uint8 or in [0, 1]; it may be called from several threads at once if `threads` says so, else in order. `labels` is
    (N,) int64, None where they come with the pictures. `made_of` names all that decides pictures and labels, such as
    files with their sizes and times; None where nobody knows. `stored` is how many bytes they take on disk, None where
    that is not known. `where` names a picture in messages. `masks` is (N, H, W) bool. `foreign` says that code of the
    user's reads them.
    """

    read: Callable[[int], Any]
    labels: np.ndarray | None
    classes: tuple[str, ...]
    name: str
    where: Callable[[int], str]
    made_of: str | None
    split: str = "test"
    stored: int | None = None
    masks: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    threads: bool = True
    foreign: bool = False
    whole: str = ""
    """Names the data as a whole in messages."""
    count: int = 0
    """The number of pictures, if labels are unknown before the pictures have been read."""
    found: Callable[[], tuple[np.ndarray, tuple[str, ...]]] | None = None
    """Returns the labels and the names of the classes, after all pictures have been read in order."""
    file: Callable[[int], File] | None = None
    """Returns the file that a picture is in, where any process that has the file can read it, in any order; `read` and
    `where` can then be sent to one."""
    content: Callable[[int], bytes] | None = None
    """Returns the bytes of the file that a picture is; None where the data have no files."""
    ends: Sequence[int] = ()
    """The positions at which parts end that are best read as a whole, in order, where there are such parts."""

    def __len__(self) -> int:
        return self.count if self.labels is None else len(self.labels)

    def labelled(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels, (N,) int64, and the names of the classes; all pictures must have been read."""
        if self.labels is not None:
            return self.labels, self.classes
        if self.found is None:
            raise TypeError("pictures without labels must find them")
        return self.found()


def files_as_they_are(files: Iterable[File]) -> tuple[str | None, int]:
    """Return a fingerprint of files, by their paths, sizes and times, and how many bytes they take, each file once.

    The time of the last change of anything about a file counts too, since programs may set the one of its content back.
    Files at a URL go by what their server calls the version; there is no fingerprint, None, where one does not say.
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


def notes_on_versions(place: str, made_of: str | None) -> tuple[str, ...]:
    """Return what is to be said of files, of this place and fingerprint, whose server does not tell versions apart."""
    if made_of is not None:
        return ()
    return (f"{printable(place)} is decoded anew in each run, since its server does not tell versions of a file apart",)


def stamp_of(file: File) -> Any:
    """Return what tells a file from another of its name, on this machine or another; None where there is no file."""
    try:
        if isinstance(file, RemoteFile):
            return remote_file(file.url)
        return (status := file.stat()).st_size, status.st_mtime_ns
    except (OSError, ValueError, InputError):
        return None


def classes_of(labels: Sequence[Any], names: Sequence[Any] | None, *, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels as (N,) int64 and the names of the classes.

    Integers from 0 count the `names`, or stand for themselves without any. Texts are positions in `names`, or without
    any in the order of the alphabet. Raises `InputError` for other labels.
    """
    expected = "expected integers from 0, or names of classes"
    if not len(labels):
        raise InputError(f"{where}: there is nothing in it; {expected} and a picture each")
    if all(isinstance(label, str) for label in labels):
        known = sorted(set(labels)) if names is None else [str(name) for name in names]
        numbers = {name: number for number, name in enumerate(known)}
        if strange := sorted(set(labels) - set(known)):
            raise InputError(f"{where}: label {strange[0]!r} is none of the classes {', '.join(known)}")
        return np.array([numbers[label] for label in labels], dtype=np.int64), tuple(known)
    try:
        values = [int(label) if float(label) == int(label) else -1 for label in labels]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: labels cannot be read ({error}); {expected}") from None
    lowest, highest = min(values), max(values)
    if lowest < 0 or highest >= MAX_CLASSES:
        raise InputError(f"{where}: labels run from {lowest} to {highest}; {expected}, below {MAX_CLASSES}")
    classes = tuple(map(str, range(highest + 1) if names is None else names))
    if highest >= len(classes):
        raise InputError(f"{where}: labels run to {highest}, there are {len(classes)} names of classes")
    if len(set(classes)) != len(classes):
        raise InputError(f"{where}: a class is named twice among {', '.join(classes)}")
    return np.array(values, dtype=np.int64), classes


def expect_proportion(path: Path | str, *, needed: int, stored: int) -> None:
    """Raise `InputError` when what is stored in so many bytes would need far more of them in memory."""
    if needed > max(FREE, MAX_EXPANSION * stored):
        raise InputError(
            f"{path}: {stored} bytes claim to hold {needed}, more than {MAX_EXPANSION} times as many; save the images "
            "anew, in the size that the model takes"
        )
