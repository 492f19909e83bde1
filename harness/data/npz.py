"""Images in an npz file of NumPy arrays, including MedMNIST's files."""

from __future__ import annotations

import itertools
import math
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from numpy.lib import format as npy

from harness.base.errors import ChangedError, DataError
from harness.base.files import require_regular
from harness.data.groups import groups_of_array
from harness.data.pictures import Item, Pictures, expect_proportion, files_as_they_are, readable
from harness.data.rows import COPIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def read_npz(place: str, *, split: str = "test", labeled: bool = True) -> Pictures:
    """Return the pictures of an npz file with `images` and `labels`.

    `images` are (N, H, W) or (N, H, W, C) uint8, C 1 or 3, and `labels` (N,) integers from 0. `masks` are optional,
    (N, H, W) bool or uint8, zero outside the object. So are `groups`, see `groups_of_array`, and `classes`, names in
    place of numbers. In a file with several splits, as in MedMNIST (Yang et al. 2023), names begin with the
    split: `test_images`. Labels may be (N, 1). Raises `InputError` for anything else. Unless `labeled`, labels are
    optional and not read.
    """
    path = Path(place)
    with opened(path) as (archive, members):
        begin = "" if "images" in members else f"{split}_"
        needed = ("images", "labels") if labeled else ("images",)
        if missing := {f"{begin}{name}" for name in needed} - set(members):
            in_split = " and ".join(f"{split}_{name}" for name in needed)
            raise DataError(
                f"{path}: has no array {min(missing)!r}, only {', '.join(sorted(members))}; expected "
                f"{' and '.join(needed)}, or {in_split}"
            )
        stored, dtype, transposed = _announced(archive, members[f"{begin}images"])
        shape = _shape_of(stored, dtype, path)
        large = math.prod(shape) > COPIED and not transposed
        own = {name: f"{begin}{name}" for name in ("masks", "groups")}
        own |= {"labels": f"{begin}labels", "classes": "classes"} if labeled else {}
        own |= {} if large else {"images": f"{begin}images"}
        found = {
            name: array_in(archive, members[each]) for name, each in own.items() if each in members
        }
    masks, count = found.get("masks"), shape[0]
    labels = _labels_of(found["labels"], count, path) if labeled else [0] * count
    if masks is not None and (masks.dtype not in (np.bool_, np.uint8) or masks.shape != shape[:3]):
        raise DataError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}, expected bool or uint8 {shape[:3]}"
        )
    array = None if large else found["images"].reshape(shape)
    read: Any = _in_order(path, f"{begin}images", shape) if array is None else array.__getitem__
    return Pictures(
        Item.each(read, count, f"{path}: image"),
        labels=labels,
        names=found["classes"].reshape(-1).tolist() if "classes" in found else None,
        name=path.stem,
        whole=str(path),
        made_of=f"{files_as_they_are([path])[0]} {split}",
        split=split,
        masks=None if masks is None else masks != 0,
        threads=not large,
        groups=groups_of_array(found["groups"], count, where=str(path))
        if "groups" in found
        else {},
        array=array,
    )


def _labels_of(labels: np.ndarray, count: int, path: Path) -> list[int]:
    """Return the labels of so many images; raises `InputError` for anything but an integer for each."""
    actual = f"{path}: labels are {labels.dtype} of shape {labels.shape}"
    expected = f"expected {count} integers from 0"
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004  (N, labels)
        raise DataError(f"{actual}, several for an image; {expected}")
    if labels.shape not in {(count,), (count, 1)} or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{actual}, {expected}")
    return cast("list[int]", labels.reshape(-1).tolist())


@contextmanager
def opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]]:
    """Yield an archive and its arrays by name; raises `InputError` if their announced size is out of proportion.

    Any exception inside the block becomes an `InputError`, since decoding a damaged archive may raise any.
    """
    expected = "expected an npz file of plain arrays, as np.savez writes"
    with readable(path, expected):
        require_regular(path)
        with path.open("rb") as file:
            if file.peek(len(npy.MAGIC_PREFIX)).startswith(npy.MAGIC_PREFIX):
                raise DataError(
                    f"{path}: holds a single array of shape {_header(file)[0]}; {expected}"
                )
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                needed = sum(member.file_size for member in members)
                expect_proportion(path, needed=needed, stored=path.stat().st_size)
                named = {each.filename: each for each in members if each.filename.endswith(".npy")}
                yield archive, {name.removesuffix(".npy"): each for name, each in named.items()}


def _in_order(path: Path, name: str, shape: tuple[int, ...]) -> Callable[[int], np.ndarray]:
    """Return a function that reads the rows of a large array in order, one at a time.

    A step back reads the array from its beginning again. The archive's checksum is verified with the last row.
    """

    def all_rows() -> Iterator[bytes]:
        with opened(path) as (archive, members), archive.open(members[name]) as file:
            _header(file)
            for _ in range(shape[0]):
                yield file.read(math.prod(shape[1:]))

    rows, following = all_rows(), 0

    def read(position: int) -> np.ndarray:
        nonlocal rows, following
        if position < following:
            rows, following = all_rows(), 0
        content = next(itertools.islice(rows, position - following, None), b"")
        following = position + 1
        if not content:
            raise ChangedError(f"{path}: was truncated during the run; run again")
        return np.frombuffer(content, dtype=np.uint8).reshape(shape[1:])

    return read


def array_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return a member of the archive; raises `ValueError` if its header does not fit its size."""
    _announced(archive, member)
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _announced(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape and type of a member, and whether it is in Fortran order; raises `ValueError` as `array_in` does."""
    with archive.open(member) as file:
        shape, dtype, transposed = _header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never unpickled")
        announced, follow = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if min(shape, default=0) < 0 or announced != follow:
            raise ValueError(
                f"{member.filename} announces {dtype} of shape {shape} where {follow} bytes follow"
            )
    return shape, dtype, transposed


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    read = (
        npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    )
    shape, transposed, dtype = read(file)
    return shape, dtype, transposed


def _shape_of(stored: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> tuple[int, ...]:
    """Return the shape (N, H, W, C) of images; raises `InputError` for other arrays."""
    shape = (*stored, 1) if len(stored) == 3 else stored  # noqa: PLR2004  Without channels.
    last = len(shape) == 4 and shape[-1] in {1, 3}  # noqa: PLR2004  (N, H, W, C)
    if dtype == np.uint8 and last and 0 not in shape:
        return shape
    why, advice = "", ""
    if np.issubdtype(dtype, np.floating):
        advice = "; for floats in [0, 1] save (images * 255).round().astype('uint8')"
    elif 0 in shape:
        why = ", so they are empty"
    elif not last and len(shape) == 4 and shape[1] in {1, 3}:  # noqa: PLR2004  (N, C, H, W)
        advice = "; move them with np.moveaxis(images, 1, -1)"
    raise DataError(
        f"{path}: images are {dtype} of shape {stored}{why}, expected uint8, (N, height, width) or "
        f"(N, height, width, channels) with 1 or 3 channels{advice}"
    )
