"""Content of a file, described before it is read: tensors, and other values, which are known by name only."""

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
    """A tensor that lies in `content`: `offset` and `stride` count its elements.

    Whoever makes one has checked that every element lies inside, and that there are no more elements than `content`
    holds, so that reading it takes no more memory than the file does.
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
        # Bytes of no type, since the content need not be aligned; NumPy checks the thresholds once more.
        elements = np.ndarray(
            self.shape,
            np.dtype(f"V{size}"),
            self.content,
            offset=self.offset * size,
            strides=[step * size for step in self.stride],
        )
        return torch.from_numpy(elements.reshape(-1).copy().view(np.uint8)).view(self.dtype).reshape(self.shape)


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor of this shape whose elements lie side by side."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    return _hash((name, tensors[name]) for name in sorted(tensors))


def hash_stored(tensors: Mapping[str, StoredTensor]) -> str:
    """Return the SHA-256 that `hash_tensors` gives, reading one tensor at a time."""
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
    """The name of something that a pickle wants; never what it stands for."""

    full: str


@dataclass(frozen=True, eq=False)
class Opaque:
    """A value of a type that is not read; `of` is the type's name, all that is kept of it."""

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
"""Constructors of plain data that a pickle may call, such as an optimizer's state. No instance is made here: a call
leaves an `Opaque`. Any other call is refused, though it would not be made either: a file that calls a shell is no
checkpoint."""
