"""Descriptions of a file's content before it is read: tensors, and other values by name only."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor within the bytes `content`; `offset` and `stride` count elements.

    Every element must lie inside `content`, and there must be no more elements than it holds; the caller verifies both.
    Reading a tensor therefore takes no more memory than the file.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    content: memoryview

    def read(self) -> Tensor:
        """Return a contiguous copy."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        size = self.dtype.itemsize
        # Untyped bytes, since the content may not be aligned; NumPy verifies the limits once more.
        elements = np.ndarray(
            self.shape,
            np.dtype(f"V{size}"),
            self.content,
            offset=self.offset * size,
            strides=[step * size for step in self.stride],
        )
        return torch.from_numpy(elements.reshape(-1).copy().view(np.uint8)).view(self.dtype).reshape(self.shape)


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a contiguous tensor of this shape."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    return _hash((name, tensors[name]) for name in sorted(tensors))


def hash_stored(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the same SHA-256 as `hash_tensors`, with one tensor in memory at a time."""
    return _hash((name, tensors[name].read()) for name in sorted(tensors))


def _hash(named: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, given in named:
        tensor = given.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Name:
    """The name of an object that a pickle refers to; the object itself is never imported."""

    full: str


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value of an unread type; only the type's name, `of`, is kept."""

    of: str


_BUILTINS = "bytearray bytes complex frozenset list range set slice xrange"
_ATTRIBUTE_DICTS = (
    "lightning.fabric.utilities.data",
    "lightning_fabric.utilities.data",
    "lightning.pytorch.utilities.parsing",
    "pytorch_lightning.utilities.parsing",
)
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_NODES = "AnyNode BooleanNode BytesNode EnumNode FloatNode IntegerNode PathNode StringNode"
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_OF_MODULES = {
    "__builtin__": _BUILTINS,
    "builtins": _BUILTINS,
    "_codecs": "encode",
    "argparse": "Namespace",
    "collections": "Counter defaultdict deque",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "functools": "partial",
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "types": "SimpleNamespace",
    "uuid": "UUID",
    "torch": "Size device",
    "torch.torch_version": "TorchVersion",
    "torchvision.transforms.functional": "InterpolationMode",
    "numpy": "dtype",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    **dict.fromkeys(_ARRAYS, "_reconstruct scalar"),
    **dict.fromkeys(_ATTRIBUTE_DICTS, "AttributeDict"),
    "omegaconf.base": "ContainerMetadata Metadata",
    "omegaconf.dictconfig": "DictConfig",
    "omegaconf.listconfig": "ListConfig",
    "omegaconf.nodes": _NODES,
    "easydict": "EasyDict",
    "yacs.config": "CfgNode",
    "ml_collections.config_dict.config_dict": "ConfigDict FrozenConfigDict FieldReference",
    "mmengine.logging.history_buffer": "HistoryBuffer",
}
DATA_TYPES = frozenset(f"{module}.{name}" for module, names in _OF_MODULES.items() for name in names.split())
"""Constructors of plain data that a pickle may call, for example in an optimizer's state. None is called here: a call
leaves an `Opaque`. Other calls would not run either, but are refused: a file that calls a shell is no checkpoint."""
