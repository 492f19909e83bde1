"""What stands beside the weights in a training file: values that nothing here reads, makes or calls, known by name.

An optimizer's state, hyper-parameters, the time: a pickle makes them by calling what it names. Here such a call leaves
an `Opaque`, the name alone. Which names may be called so is a list of plain data types. Whatever else a pickle calls is
refused, though it would not be called here either: a file that calls a shell is no checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass


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
"""What a pickle may call: constructors of plain data, of which no instance is made here."""
