"""Images in an npz file of NumPy arrays, including MedMNIST's files."""

from __future__ import annotations

import math
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from harness.base.errors import ChangedError, DataError, InputError
from harness.base.files import require_regular
from harness.data.groups import groups_of_array
from harness.data.pictures import Pictures, expect_proportion, files_as_they_are
from harness.data.rows import COPIED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def read_npz(place: str, *, split: str = "test") -> Pictures:
    """Return the pictures of an npz file with `images` and `labels`.

    `images` are (N, H, W) or (N, H, W, C) uint8, C 1 or 3, and `labels` (N,) integers from 0. `masks` are optional,
    (N, H, W) bool or uint8, zero outside the object. So are `groups`, see `groups_of_array`, and `classes`, names in
    place of numbers. In a file with several splits, as in MedMNIST (Yang et al. 2023), names begin with the
    split: `test_images`. Labels may be (N, 1). Raises `InputError` for anything else.
    """
    path = Path(place)
    with opened(path) as (archive, members):
        begin = "" if "images" in members else f"{split}_"
        if missing := {f"{begin}images", f"{begin}labels"} - set(members):
            raise DataError(
                f"{path}: has no array {min(missing)!r}, only {', '.join(sorted(members))}; expected images and "
                f"labels, or {split}_images and {split}_labels"
            )
        kept = members[f"{begin}images"]
        stream = _stream(path, archive, kept)
        kinds = ("labels", "masks", "groups")
        names = (*(() if stream else (f"{begin}images",)), *(f"{begin}{kind}" for kind in kinds), "classes")
        arrays = {name: array_in(archive, members[name]) for name in names if name in members}
    pixels = _pixels(stream or arrays[f"{begin}images"], path)
    labels, classes = arrays[f"{begin}labels"], arrays.get("classes")
    expected = f"expected {len(pixels)} integers from 0, one per image"
    found = f"{path}: labels are {labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004  (N, labels)
        raise DataError(f"{found}, several for an image; {expected}")
    if labels.shape not in {(len(pixels),), (len(pixels), 1)} or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{found}, {expected}")
    masks = arrays.get(f"{begin}masks")
    if masks is not None and (masks.dtype not in (np.bool_, np.uint8) or masks.shape != pixels.shape[:3]):
        raise DataError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}, expected bool or uint8 {pixels.shape[:3]}, one "
            "per image"
        )
    masks = None if masks is None else masks != 0
    given = arrays.get(f"{begin}groups")
    groups = {} if given is None else groups_of_array(given, len(pixels), where=str(path))
    made_of, _ = files_as_they_are([path])
    return Pictures(
        read=pixels.__getitem__,
        labels=labels.reshape(-1).tolist(),
        names=None if classes is None else classes.reshape(-1).tolist(),
        name=path.stem,
        whole=str(path),
        where=lambda position: f"{path}: image {position}",
        made_of=f"{made_of} {split}",
        split=split,
        masks=masks,
        threads=isinstance(pixels, np.ndarray),
        groups=groups,
        array=pixels if isinstance(pixels, np.ndarray) else None,
    )


@contextmanager
def opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, Mapping[str, zipfile.ZipInfo]]]:
    """Yield an archive and its arrays by name; raises `InputError` if their announced size is out of proportion.

    Any exception inside the block becomes an `InputError`, since decoding a damaged archive may raise any.
    """
    expected = "expected an npz file of plain arrays, as np.savez writes"
    try:
        require_regular(path)
        with path.open("rb") as file:
            if file.peek(len(npy.MAGIC_PREFIX)).startswith(npy.MAGIC_PREFIX):
                raise DataError(f"{path}: holds a single array of shape {_header(file)[0]}; {expected}")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                needed = sum(member.file_size for member in members)
                expect_proportion(path, needed=needed, stored=path.stat().st_size)
                arrays = {each.filename.removesuffix(".npy"): each for each in members}
                yield archive, {name: each for name, each in arrays.items() if each.filename.endswith(".npy")}
    except InputError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {expected}") from None
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({error!r}); {expected}") from None


class _Stream:
    """The rows of an array in an npz file, read in order and held in memory one at a time.

    A step back reads the array from its beginning again. The archive's checksum is verified with the last row.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._name, self._rows = path, name, self._all()
        self.shape, self.dtype, self.ndim = shape, dtype, len(shape)
        self._next = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, position: int) -> np.ndarray:
        if position < self._next:
            self._rows, self._next = self._all(), 0
        try:
            while self._next <= position:
                content = next(self._rows)
                self._next += 1
        except StopIteration:
            raise ChangedError(f"{self._path}: was truncated during the run; run again") from None
        return np.frombuffer(content, dtype=np.uint8).reshape(self.shape[1:])

    def _all(self) -> Iterator[bytes]:
        with opened(self._path) as (archive, members), archive.open(members[self._name]) as file:
            _header(file)
            size = math.prod(self.shape[1:])
            for _ in range(self.shape[0]):
                yield file.read(size)


def _stream(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Stream | None:
    """Return a stream of images that are too many to copy; None for fewer, and for an array in Fortran order."""
    shape, dtype, transposed = _announced(archive, member)
    with_channels = (*shape, 1) if len(shape) == 3 else shape  # noqa: PLR2004  (N, H, W)
    if math.prod(shape) * dtype.itemsize <= COPIED or transposed:
        return None
    return _Stream(path, member.filename.removesuffix(".npy"), with_channels, dtype)


def array_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return a member of the archive; raises `ValueError` if its header does not fit its size."""
    _announced(archive, member)
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _announced(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape and type of a member, and whether it is in Fortran order; raises `ValueError` as `array_in` does."""
    with archive.open(member) as file:
        shape, dtype, transposed = _header(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects, which are never unpickled")
        announced, follow = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if min(shape, default=0) < 0 or announced != follow:
            raise ValueError(f"{member.filename} announces {dtype} of shape {shape} where {follow} bytes follow")
    return shape, dtype, transposed


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape and type of the array that follows, and whether it is in Fortran order."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, transposed, dtype = read(file)
    return shape, dtype, transposed


def _pixels(pixels: np.ndarray | _Stream, path: Path) -> np.ndarray | _Stream:
    expected = "expected uint8 from 0 to 255, (N, height, width) or (N, height, width, channels) with 1 or 3 channels"
    found = f"{path}: images are {pixels.dtype} of shape {pixels.shape}"
    if np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"{found}, {expected}; for floats in [0, 1] save (images * 255).round().astype('uint8')")
    if isinstance(pixels, np.ndarray) and pixels.ndim == 3:  # noqa: PLR2004  Without channels.
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4:  # noqa: PLR2004  (N, H, W, C)
        raise DataError(f"{found}, {expected}")
    if pixels.shape[-1] not in {1, 3}:
        first = pixels.shape[1] in {1, 3}
        raise DataError(f"{found}, {expected}" + ("; move them with np.moveaxis(images, 1, -1)" if first else ""))
    if 0 in pixels.shape:
        raise DataError(f"{found}, so they are empty; {expected}")
    return pixels
