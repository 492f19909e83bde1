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

    `images` are (N, H, W) or (N, H, W, C) uint8, C 1 or 3, and `labels` (N,) or (N, 1) integers
    from 0. Three arrays are optional: `masks`, (N, H, W) bool or uint8, zero outside the object,
    `groups`, see `groups_of_array`, and `classes`, names in place of numbers.

    Args:
        place: The path of the file.
        split: The split of a file with several, as in MedMNIST (Yang et al. 2023), where the names
            of arrays begin with the split: `test_images`.
        labeled: Read the labels; if not, they are optional.

    Raises:
        InputError: The file is anything else.
    """
    path = Path(place)
    with opened(path) as (archive, members):
        prefix = f"{split}_"
        if "images" in members:
            prefix = ""
        _expect_arrays(path, members, prefix, split=split, labeled=labeled)
        stored, dtype, transposed = _announced(archive, members[f"{prefix}images"])
        shape = _shape_of(stored, dtype, path)
        large = math.prod(shape) > COPIED and not transposed

        names = {"masks": f"{prefix}masks", "groups": f"{prefix}groups"}
        if labeled:
            names |= {"labels": f"{prefix}labels", "classes": "classes"}
        if not large:
            names["images"] = f"{prefix}images"
        arrays = {}
        for name, member in names.items():
            if member in members:
                arrays[name] = array_in(archive, members[member])

    count = shape[0]
    labels = [0] * count
    if labeled:
        labels = _labels_of(arrays["labels"], count, path)
    class_names = None
    if "classes" in arrays:
        class_names = arrays["classes"].reshape(-1).tolist()
    masks = _masks_of(arrays.get("masks"), shape, path)
    groups = {}
    if "groups" in arrays:
        groups = groups_of_array(arrays["groups"], count, where=str(path))
    array = None
    read: Any = None
    if large:
        read = _in_order(path, f"{prefix}images", shape)
    else:
        array = arrays["images"].reshape(shape)
        read = array.__getitem__
    return Pictures(
        Item.each(read, count, f"{path}: image"),
        labels=labels,
        names=class_names,
        name=path.stem,
        whole=str(path),
        made_of=f"{files_as_they_are([path])[0]} {split}",
        split=split,
        masks=masks,
        threads=not large,
        groups=groups,
        array=array,
    )


def _expect_arrays(
    path: Path, members: Mapping[str, object], prefix: str, *, split: str, labeled: bool
) -> None:
    """Raise `InputError` unless the archive has the arrays of images and, if `labeled`, labels."""
    names = ["images"]
    if labeled:
        names.append("labels")
    missing = {f"{prefix}{name}" for name in names} - set(members)
    if missing:
        in_split = " and ".join(f"{split}_{name}" for name in names)
        raise DataError(
            f"{path}: has no array {min(missing)!r}, only {', '.join(sorted(members))}; expected "
            f"{' and '.join(names)}, or {in_split}"
        )


def _masks_of(masks: np.ndarray | None, shape: tuple[int, ...], path: Path) -> np.ndarray | None:
    """Return masks as bool; raises `InputError` unless they fit images of this (N, H, W, C)."""
    if masks is None:
        return None
    if masks.dtype not in (np.bool_, np.uint8) or masks.shape != shape[:3]:
        raise DataError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}, "
            f"expected bool or uint8 {shape[:3]}"
        )
    return np.asarray(masks != 0)


def _labels_of(labels: np.ndarray, count: int, path: Path) -> list[int]:
    """Return the labels of so many images; raises `InputError` unless each has an integer."""
    actual = f"{path}: labels are {labels.dtype} of shape {labels.shape}"
    expected = f"expected {count} integers from 0"
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004  (N, labels)
        raise DataError(f"{actual}, several for an image; {expected}")
    if labels.shape not in {(count,), (count, 1)} or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{actual}, {expected}")
    return cast("list[int]", labels.reshape(-1).tolist())


@contextmanager
def opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]]:
    """Yield an archive and its arrays by name.

    Any exception inside the block becomes an `InputError`, since decoding a damaged archive may
    raise any.

    Raises:
        InputError: The announced size of the arrays is out of proportion to that of the file.
    """
    expected = "expected an npz file of plain arrays, as np.savez writes"
    with readable(path, expected):
        require_regular(path)
        with path.open("rb") as file:
            if file.peek(len(npy.MAGIC_PREFIX)).startswith(npy.MAGIC_PREFIX):
                shape, _, _ = _header(file)
                raise DataError(f"{path}: holds a single array of shape {shape}; {expected}")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                needed = sum(member.file_size for member in members)
                expect_proportion(path, needed=needed, stored=path.stat().st_size)
                arrays = {}
                for member in members:
                    if member.filename.endswith(".npy"):
                        arrays[member.filename.removesuffix(".npy")] = member
                yield archive, arrays


def _in_order(path: Path, name: str, shape: tuple[int, ...]) -> Callable[[int], np.ndarray]:
    """Return a function that reads the rows of a large array in order, one at a time.

    A step back reads the array from its beginning again. The archive's checksum is verified with
    the last row.
    """

    def all_rows() -> Iterator[bytes]:
        with opened(path) as (archive, members), archive.open(members[name]) as file:
            _header(file)
            for _ in range(shape[0]):
                yield file.read(math.prod(shape[1:]))

    rows = all_rows()
    following = 0

    def read(position: int) -> np.ndarray:
        nonlocal rows, following
        if position < following:
            rows = all_rows()
            following = 0
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
    """Return shape and type of a member, and whether it is in Fortran order.

    Raises `ValueError` if its header does not fit its size, or if it holds Python objects.
    """
    with archive.open(member) as file:
        shape, dtype, transposed = _header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never unpickled")
        announced = math.prod(shape) * dtype.itemsize
        following = member.file_size - file.tell()
        if min(shape, default=0) < 0 or announced != following:
            raise ValueError(
                f"{member.filename} announces {dtype} of shape {shape} "
                f"where {following} bytes follow"
            )
    return shape, dtype, transposed


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape and type of the array in a file, and whether it is in Fortran order."""
    if npy.read_magic(file) == (1, 0):
        shape, transposed, dtype = npy.read_array_header_1_0(file)
    else:
        shape, transposed, dtype = npy.read_array_header_2_0(file)
    return shape, dtype, transposed


def _shape_of(stored: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> tuple[int, ...]:
    """Return the shape (N, H, W, C) of images; raises `InputError` for other arrays."""
    shape = stored
    if len(stored) == 3:  # noqa: PLR2004  Without channels.
        shape = (*stored, 1)
    channels_last = len(shape) == 4 and shape[-1] in {1, 3}  # noqa: PLR2004  (N, H, W, C)
    if dtype == np.uint8 and channels_last and 0 not in shape:
        return shape

    reason = ""
    advice = ""
    if np.issubdtype(dtype, np.floating):
        advice = "; for floats in [0, 1] save (images * 255).round().astype('uint8')"
    elif 0 in shape:
        reason = ", so they are empty"
    elif not channels_last and len(shape) == 4 and shape[1] in {1, 3}:  # noqa: PLR2004  (N, C, H, W)
        advice = "; move them with np.moveaxis(images, 1, -1)"
    raise DataError(
        f"{path}: images are {dtype} of shape {stored}{reason}, expected uint8, "
        f"(N, height, width) or (N, height, width, channels) with 1 or 3 channels{advice}"
    )
