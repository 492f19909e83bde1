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

    It replaces a tensor: `rows[positions]` (integers, slices, arrays, tensors) and iteration read
    single rows. Any other operation of a tensor works on a copy of all rows.

    Attributes:
        source: The function that reads rows of the whole array, which has this shape, and the
            positions of these rows for it, (N,) int64.
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

        if positions is None:
            positions = np.arange(shape[0])
        self.source = read, positions
        self.dtype = dtype
        self.device = torch.device("cpu")
        self.ndim = len(shape)
        self.shape = torch.Size((len(self), *shape[1:]))

    def __len__(self) -> int:
        return len(self.source[1])

    def __getitem__(self, index: Any) -> Tensor:
        """Return the same as a tensor for this index, read into memory."""
        row_index, inner_index = index, ()
        if isinstance(index, tuple):
            row_index, *inner = index
            inner_index = tuple(inner)
        if not isinstance(row_index, int | slice):
            row_index = np.asarray(row_index)

        read, positions = self.source
        chosen = positions[row_index]
        rows = read(np.atleast_1d(chosen))
        if np.ndim(chosen) == 0:
            return rows[0][inner_index]
        return rows[(slice(None), *inner_index)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: FBT001  NumPy's protocol.
        return np.asarray(self[:].numpy(), dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self[:], name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = [_in_memory(value) for value in args]
        named_values = {name: _in_memory(value) for name, value in (kwargs or {}).items()}
        return func(*values, **named_values)


def _in_memory(value: Any) -> Any:
    """Return an argument of an operation with tensors in the place of `Rows`."""
    if isinstance(value, Rows):
        return value[:]
    if type(value) in {list, tuple}:
        return type(value)(map(_in_memory, value))
    return value


class FileRows:
    """Reads rows of bytes from a file that stays open; another process opens it by its name.

    Attributes:
        path: The file's real path, None for a file without a name.
        stamp: The file's size and inode, which distinguish it from another file of this name.
    """

    def __init__(
        self, file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, offset: int
    ) -> None:
        self.path = None
        if isinstance(file.name, str):
            self.path = os.path.realpath(file.name)
        status = os.fstat(file.fileno())
        self.stamp = status.st_size, status.st_ino
        self.layout = tuple(shape), dtype, offset
        self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.stamp, *self.layout)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Return the rows at these positions, (M,) int64."""
        import torch

        (_, *row_shape), dtype, offset = self.layout
        row_bytes = math.prod(row_shape)
        rows = np.empty((len(positions), *row_shape), dtype=np.uint8)
        content = rows.reshape(-1).data

        start = 0
        for run in _consecutive(positions):
            end = start + len(run) * row_bytes
            self._fill(content[start:end], offset + int(run[0]) * row_bytes)
            start = end
        return torch.from_numpy(rows).view(dtype)

    def _fill(self, target: memoryview, offset: int) -> None:
        """Read bytes of the file from `offset` on, as many as the target has."""
        while target:
            count = os.preadv(self.descriptor, [target], offset)
            if count == 0:
                raise ChangedError(f"{self.path}: was truncated during the run; run again")
            target = target[count:]
            offset += count


def _consecutive(positions: np.ndarray) -> list[np.ndarray]:
    """Return positions, (M,) int64, as runs of consecutive ones, each of which is read at once."""
    if not len(positions):
        return []
    breaks = np.flatnonzero(np.diff(positions) != 1) + 1
    return np.split(positions, breaks)


def _reopened(path: str, stamp: tuple[int, int], *layout: Any) -> FileRows:
    """Return the rows of a file of this name.

    Raises:
        FileNotFoundError: The file is missing, or another one.
    """
    with Path(path).open("rb") as file:
        rows = FileRows(file, *layout)
    if rows.stamp != stamp:
        raise FileNotFoundError(f"{path}: is another file")
    return rows


def rows_of_file(
    file: BinaryIO, shape: Sequence[int], dtype: torch.dtype, *, offset: int = 0
) -> Tensor:
    """Return an array of bytes, stored in a file from `offset` on, as `Rows` in place of a tensor.

    Rows are read, not memory-mapped. The touched pages of a map would count as memory of this
    process, and a truncated file would kill it. The file may be closed and deleted while the rows
    are in use.
    """
    read = FileRows(file, shape, dtype, offset)
    return cast("Tensor", Rows(read, shape, dtype))


def take_rows(tensor: Tensor, positions: Tensor) -> Tensor:
    """Return the rows of a tensor at these positions, (M,) int64.

    They are a copy, or `Rows` if they have more than `COPIED` bytes.
    """
    import torch

    if len(positions) * _row_bytes(tensor) <= COPIED:
        return tensor[positions]

    if isinstance(tensor, Rows):
        read, positions_of_all = tensor.source
        rows = Rows(read, tensor.shape, tensor.dtype, positions=positions_of_all[positions.numpy()])
        return cast("Tensor", rows)

    def read_tensor(positions: np.ndarray) -> Tensor:
        return tensor[torch.from_numpy(positions)]

    rows = Rows(read_tensor, tensor.shape, tensor.dtype, positions=positions.numpy())
    return cast("Tensor", rows)


def _row_bytes(tensor: Tensor) -> int:
    """Return the size of a row of a tensor in bytes."""
    return math.prod(tensor.shape[1:]) * tensor.dtype.itemsize


def in_parts(tensor: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield consecutive parts of a tensor with their slices, each of at most 8 MB."""
    for part in parts_of(len(tensor), _row_bytes(tensor), part_bytes=8 << 20):
        yield part, tensor[part]


def parts_of(count: int, row_bytes: int, *, part_bytes: int = COPIED) -> Iterator[slice]:
    """Divide `count` rows of `row_bytes` each into parts of at most `part_bytes`."""
    size = max(1, part_bytes // max(1, row_bytes))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def gathered(parts: Iterable[np.ndarray], shape: Sequence[int]) -> Tensor:
    """Return parts, each some rows of uint8, as one tensor of this shape.

    A large one is on disk: in a file without a name, which disappears with the rows.
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
