"""Rows of an array that is too large for memory, read on demand."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from harness.base import user_folder
from harness.base.errors import ChangedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    import torch
    from torch import Tensor

COPIED = 64 << 20
"""Bytes up to which a selection of rows is copied; a larger one stays on disk."""
_PART = 8 << 20
"""Bytes of a part in `in_parts`."""


class Rows:
    """Some rows of an (N, ...) array of bytes, in some order and outside memory.

    It replaces a tensor: `rows[positions]` (integers, slices, arrays, tensors) and iteration read single rows. Any
    other operation of a tensor works on a copy of all rows.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], Tensor],
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        positions: np.ndarray | None = None,
    ) -> None:
        """Rows of an array of this shape; `read` returns those at given positions, (M,) int64."""
        import torch

        self._read, self._whole = read, tuple(shape)
        self._positions = np.arange(shape[0]) if positions is None else positions
        self.dtype = dtype
        self.device = torch.device("cpu")

    @staticmethod
    def of(tensor: Tensor) -> Rows:
        """Return a tensor in memory as rows; rows are returned unchanged."""
        if isinstance(tensor, Rows):
            return tensor
        import torch

        return Rows(lambda positions: tensor[torch.from_numpy(positions)], tensor.shape, tensor.dtype)

    @property
    def source(self) -> tuple[Callable[[np.ndarray], Tensor], np.ndarray]:
        """Return the function that reads rows, and the positions of these rows for it, (N,) int64."""
        return self._read, self._positions

    @property
    def shape(self) -> torch.Size:
        """Return the shape (N, ...)."""
        import torch

        return torch.Size((len(self._positions), *self._whole[1:]))

    @property
    def ndim(self) -> int:
        """Return the number of axes."""
        return len(self._whole)

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, index: Any) -> Tensor:
        """Return the same as a tensor for this index, read into memory."""
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        chosen = self._positions[np.asarray(first) if not isinstance(first, int | slice) else first]
        alone = np.ndim(chosen) == 0
        found = self._read(np.atleast_1d(chosen))
        return found[0][rest] if alone else found[(slice(None), *rest)]

    def rows(self, positions: Tensor) -> Rows:
        """Return the rows at these positions, (M,) int64, without reading any."""
        return Rows(self._read, self._whole, self.dtype, positions=self._positions[positions.numpy()])

    def tensor(self) -> Tensor:
        """Return a copy of all rows."""
        return self._read(self._positions)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001  NumPy's protocol.
        return np.asarray(self.tensor().numpy(), dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.tensor(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def plain(value: Any) -> Any:
            if isinstance(value, Rows):
                return value.tensor()
            return type(value)(map(plain, value)) if type(value) in {list, tuple} else value

        return func(*plain(tuple(args)), **{name: plain(value) for name, value in (kwargs or {}).items()})


@dataclass(frozen=True)
class FileRows:
    """Reads rows of bytes from a file that stays open; another process opens it again by its name.

    `path` is None for a file without a name. `stamp`, its size and inode, distinguishes it from another of this name.
    """

    descriptor: int
    path: str | None
    stamp: tuple[int, int]
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int

    @staticmethod
    def of(file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, *, offset: int) -> FileRows:
        """Return the rows of an array of this shape, stored in a file from `offset` on."""
        name, found = file.name, os.fstat(file.fileno())
        path = os.path.realpath(name) if isinstance(name, str) else None
        stamp = found.st_size, found.st_ino
        rows = FileRows(os.dup(file.fileno()), path, stamp, tuple(shape), dtype, offset)
        weakref.finalize(rows, os.close, rows.descriptor)
        return rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.stamp, self.shape, self.dtype, self.offset)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Return the rows at these positions, (M,) int64."""
        import torch

        size = math.prod(self.shape[1:])
        rows = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        content = rows.reshape(-1).data
        # Consecutive rows are read at once.
        ends = [*(np.flatnonzero(np.diff(positions) != 1) + 1).tolist(), len(positions)]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            into, at = content[start * size : end * size], self.offset + int(positions[start]) * size
            while into:
                if not (count := os.preadv(self.descriptor, [into], at)):
                    raise ChangedError(f"{self.path}: was truncated during the run; run again")
                into, at = into[count:], at + count
        found = torch.from_numpy(rows)
        return found.view(self.dtype) if self.dtype != torch.uint8 else found


def _reopened(path: str, stamp: tuple[int, int], *layout: Any) -> FileRows:
    """Return the rows of a file of this name; raises `FileNotFoundError` for a missing or another file."""
    with Path(path).open("rb") as file:
        rows = FileRows.of(file, *layout[:2], offset=layout[2])
    if rows.stamp != stamp:
        raise FileNotFoundError(f"{path}: is another file")
    return rows


def rows_of_file(file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, *, offset: int = 0) -> Tensor:
    """Return an array of bytes, stored in a file from `offset` on, as `Rows` in place of a tensor.

    Rows are read, not memory-mapped. The touched pages of a map would count as memory of this process, and a truncated
    file would kill it. The file may be closed and deleted while the rows are in use.
    """
    return cast("Tensor", Rows(FileRows.of(file, shape, dtype, offset=offset), shape, dtype))


def take_rows(tensor: Tensor, positions: Tensor) -> Tensor:
    """Return the rows of a tensor at these positions, (M,) int64: a copy, or `Rows` above `COPIED` bytes."""
    if len(positions) * math.prod(tensor.shape[1:]) * tensor.dtype.itemsize <= COPIED:
        return tensor[positions]
    return cast("Tensor", Rows.of(tensor).rows(positions))


def in_parts(tensor: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield consecutive parts of a tensor with their slices, each of at most 8 MB."""
    for part in parts_of(len(tensor), math.prod(tensor.shape[1:]) * tensor.dtype.itemsize, part_bytes=_PART):
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
