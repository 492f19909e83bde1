"""Rows of an array that is too large for memory, read on demand."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.base.errors import ChangedError
from harness.base.files import user_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    import torch
    from torch import Tensor

COPIED = 64 << 20
"""Bytes up to which a selection of rows is copied; a larger one stays on disk."""


class Rows:
    """Some rows of an (N, ...) array of bytes, in some order and outside memory.

    It replaces a tensor: `rows[positions]` (integers, slices, arrays, tensors) and iteration read single rows. Any
    other operation of a tensor works on a copy of all rows. `source` has the function that reads rows of the whole
    array, of this shape, and the positions of these rows for it, (N,) int64.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], Tensor],
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        positions: np.ndarray | None = None,
    ) -> None:
        import torch

        self.source = read, np.arange(shape[0]) if positions is None else positions
        self.dtype, self.device, self.ndim = dtype, torch.device("cpu"), len(shape)
        self.shape = torch.Size((len(self), *shape[1:]))

    def __len__(self) -> int:
        return len(self.source[1])

    def __getitem__(self, index: Any) -> Tensor:
        """Return the same as a tensor for this index, read into memory."""
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        read, positions = self.source
        chosen = positions[first if isinstance(first, int | slice) else np.asarray(first)]
        found = read(np.atleast_1d(chosen))
        return found[(slice(None), *rest)] if np.ndim(chosen) else found[0][rest]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001  NumPy's protocol.
        return np.asarray(self[:].numpy(), dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self[:], name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def plain(value: Any) -> Any:
            if isinstance(value, Rows):
                return value[:]
            return type(value)(map(plain, value)) if type(value) in {list, tuple} else value

        return func(
            *plain(tuple(args)), **{name: plain(value) for name, value in (kwargs or {}).items()}
        )


class FileRows:
    """Reads rows of bytes from a file that stays open; another process opens it again by its name.

    `path` is None for a file without a name. `stamp`, its size and inode, distinguishes it from another of this name.
    """

    def __init__(
        self, file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, offset: int
    ) -> None:
        name, found = file.name, os.fstat(file.fileno())
        self.path = os.path.realpath(name) if isinstance(name, str) else None
        self.stamp = found.st_size, found.st_ino
        self.layout = tuple(shape), dtype, offset
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.stamp, *self.layout)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Return the rows at these positions, (M,) int64."""
        import torch

        (_, *of_one), dtype, offset = self.layout
        size = math.prod(of_one)
        rows = np.empty((len(positions), *of_one), dtype=np.uint8)
        content = rows.reshape(-1).data
        # Consecutive rows are read at once.
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        start = 0
        for run in np.split(positions, breaks) if len(positions) else ():
            end = start + len(run) * size
            into, at = content[start:end], offset + int(run[0]) * size
            start = end
            while into:
                if not (count := os.preadv(self.descriptor, [into], at)):
                    raise ChangedError(f"{self.path}: was truncated during the run; run again")
                into, at = into[count:], at + count
        return torch.from_numpy(rows).view(dtype)


def _reopened(path: str, stamp: tuple[int, int], *layout: Any) -> FileRows:
    """Return the rows of a file of this name; raises `FileNotFoundError` for a missing or another file."""
    with Path(path).open("rb") as file:
        rows = FileRows(file, *layout)
    if rows.stamp != stamp:
        raise FileNotFoundError(f"{path}: is another file")
    return rows


def rows_of_file(
    file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, *, offset: int = 0
) -> Tensor:
    """Return an array of bytes, stored in a file from `offset` on, as `Rows` in place of a tensor.

    Rows are read, not memory-mapped. The touched pages of a map would count as memory of this process, and a truncated
    file would kill it. The file may be closed and deleted while the rows are in use.
    """
    return cast("Tensor", Rows(FileRows(file, shape, dtype, offset), shape, dtype))


def take_rows(tensor: Tensor, positions: Tensor) -> Tensor:
    """Return the rows of a tensor at these positions, (M,) int64: a copy, or `Rows` above `COPIED` bytes."""
    import torch

    if len(positions) * math.prod(tensor.shape[1:]) * tensor.dtype.itemsize <= COPIED:
        return tensor[positions]
    at, read = positions.numpy(), lambda positions: tensor[torch.from_numpy(positions)]
    if isinstance(tensor, Rows):
        read, at = tensor.source[0], tensor.source[1][at]
    return cast("Tensor", Rows(read, tensor.shape, tensor.dtype, positions=at))


def in_parts(tensor: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield consecutive parts of a tensor with their slices, each of at most 8 MB."""
    for part in parts_of(
        len(tensor), math.prod(tensor.shape[1:]) * tensor.dtype.itemsize, part_bytes=8 << 20
    ):
        yield part, tensor[part]


def parts_of(count: int, row_bytes: int, *, part_bytes: int = COPIED) -> Iterator[slice]:
    """Divide `count` rows of `row_bytes` each into parts of at most `part_bytes`."""
    size = max(1, part_bytes // max(1, row_bytes))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def gathered(parts: Iterable[np.ndarray], shape: Sequence[int]) -> Tensor:
    """Return parts, each some rows of uint8, as one tensor of this shape: in memory, or on disk if it is large.

    On disk it is a file without a name, which disappears with the rows.
    """
    import torch

    if math.prod(shape) <= COPIED:
        return torch.from_numpy(np.concatenate(list(parts)))
    folder = user_folder("images")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
        return rows_of_file(cast("BinaryIO", file), shape, torch.uint8)
