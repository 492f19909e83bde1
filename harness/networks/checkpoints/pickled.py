"""Files of `torch.save`, read without an unpickler: a pickle is data here, and no name in it is ever imported.

A pickle is a program for a stack machine. Python's unpickler imports and calls the names in it. Even a restricted
unpickler may hang or exhaust the memory. This machine knows only the instructions for dicts of tensors, numbers and
text. It returns descriptions of tensors, which are read later if they fit. The rules are:

- A pickle may call the constructors of a tensor, of an ordered dict, or of a type in `DATA_TYPES`. A call of the latter
  returns an `Opaque`. Any other call is refused.
- A name that a pickle does not call, such as a loss function among hyperparameters, becomes a `Name`.
- `Opaque` and `Name` are no weights: they may occur beside the loaded state dict, but not in it; see `state_dicts`.
"""

from __future__ import annotations

import math
import pickletools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.networks.checkpoints.files import SAVE_WEIGHTS_ALONE, CheckpointRefused, Code, shown
from harness.networks.checkpoints.tensors import DATA_TYPES, Name, Opaque, StoredTensor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_PICKLE_BYTES = 4 << 20
"""Most bytes of a pickle; it is enough for tens of thousands of tensors, with those of an optimizer."""
MAX_INSTRUCTIONS = 1_200_000
"""Most instructions of a pickle, since each may leave an object in memory."""

_MAX_DIMENSIONS = 16
_MAX_KEY = 1 << 60
"""Integers beyond it may share one hash, and a dict of them would take forever."""
_DICT, _TENSOR, _PARAMETER = (
    *("collections.OrderedDict", "torch._utils._rebuild_tensor_v2"),
    "torch._utils._rebuild_parameter",
)
_REBUILDS = ("torch._utils._rebuild", "torch._tensor._rebuild")
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}

_IGNORED = {"PROTO", "FRAME", "STOP"}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_OPAQUE = {
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), "builtins.bytes"),
    "BYTEARRAY8": "builtins.bytearray",
    "EMPTY_SET": "builtins.set",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True, eq=False)
class Storage:
    """The bytes that tensors share, and their type."""

    dtype: torch.dtype
    content: memoryview


class _Refusal(Exception):  # noqa: N818
    def __init__(self, code: Code, fact: str) -> None:
        super().__init__(fact)
        self.code: Code = code


def read_pickle(members: Mapping[str, memoryview], path: Path) -> object:
    """Return the object that `torch.save` wrote, from the members of its zip file; raises `CheckpointRefused`.

    Dicts, lists, tuples, numbers and text keep their types. Tensors are `StoredTensor`, and all else is `Opaque` or a
    `Name`.
    """
    try:
        _check_members(members)
        return _Machine(members).run(bytes(members["data.pkl"]))
    except _Refusal as refusal:
        raise CheckpointRefused(refusal.code, path, str(refusal), SAVE_WEIGHTS_ALONE) from None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        fact = f"its pickle is not one of torch.save ({shown(error)})"
        raise CheckpointRefused("FORMAT", path, fact, SAVE_WEIGHTS_ALONE) from None


def _check_members(members: Mapping[str, memoryview]) -> None:
    if "data.pkl" not in members:
        raise _Refusal("FORMAT", "a zip file, but not one that torch.save wrote for a state dict")
    if bytes(members.get("byteorder", b"little")) != b"little":
        raise _Refusal("FORMAT", "its numbers are not in little-endian order")
    if (size := len(members["data.pkl"])) > MAX_PICKLE_BYTES:
        raise _Refusal("RESOURCE", f"its pickle has {size} bytes, more than the limit of {MAX_PICKLE_BYTES}")


class _Machine:
    """Runs a pickle for its data, and refuses any other instruction."""

    def __init__(self, members: Mapping[str, memoryview]) -> None:
        self.members = members
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> object:
        end = -1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Old kinds of text with odd escapes warn, and are refused anyway.
            for number, (opcode, argument, position) in enumerate(pickletools.genops(content)):
                if number == MAX_INSTRUCTIONS:
                    fact = f"its pickle has more than {MAX_INSTRUCTIONS} instructions"
                    raise _Refusal("RESOURCE", fact)
                self._step(opcode.name, argument)
                end = position or 0
        if end + 1 != len(content):
            raise ValueError("bytes follow its end")
        (value,) = self.stack
        return value

    def _step(self, opcode: str, argument: Any) -> None:
        """Push a new value on the stack, or else `_use` those on it."""
        stack = self.stack
        if opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _OPAQUE:
            stack.append(Opaque(_OPAQUE[opcode]))
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode == "EMPTY_LIST":
            stack.append([])
        elif opcode == "FROZENSET":
            self._popped_to_mark()
            stack.append(Opaque("builtins.frozenset"))
        elif opcode == "GLOBAL":
            stack.append(_named(".".join(argument.split(" "))))
        elif opcode == "STACK_GLOBAL":
            stack.append(_named(".".join(_of_type(str, part) for part in self._popped(2))))
        elif opcode == "BINPERSID":
            stack.append(self._storage(*self._popped(1)))
        elif opcode == "REDUCE":
            stack.append(_called(*self._popped(2)))
        elif opcode == "NEWOBJ":
            made, _ = self._popped(2)
            stack.append(_data(_of_type(Name, made).full))
        elif opcode not in _IGNORED:
            self._use(opcode, argument)

    def _use(self, opcode: str, argument: Any) -> None:
        """Collect, store or fill values of the stack."""
        stack = self.stack
        if opcode == "MARK":
            self.marks.append(len(stack))
        elif opcode in _TUPLES:
            stack.append(tuple(self._popped(_TUPLES[opcode])))
        elif opcode == "TUPLE":
            stack.append(tuple(self._popped_to_mark()))
        elif opcode in {"BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            self.memo[len(self.memo) if opcode == "MEMOIZE" else argument] = stack[-1]
        elif opcode in {"BINGET", "LONG_BINGET"}:
            stack.append(self.memo[argument])
        elif opcode in {"APPEND", "APPENDS", "ADDITEMS"}:
            values = self._popped(1) if opcode == "APPEND" else self._popped_to_mark()
            if not isinstance(stack[-1], Opaque):
                _of_type(list, stack[-1]).extend(values)
        elif opcode in {"SETITEM", "SETITEMS"}:
            values = self._popped(2) if opcode == "SETITEM" else self._popped_to_mark()
            if not isinstance(stack[-1], Opaque):
                _set_items(_of_type(dict, stack[-1]), values)
        elif opcode == "BUILD":
            # A state dict has the versions of its layers as an attribute, which the tensors do not need.
            self._popped(1)
            if not isinstance(stack[-1], Opaque):
                _of_type(dict, stack[-1])
        else:
            wanted = ".".join(argument.split(" ")) if opcode == "INST" else opcode
            raise _Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(wanted)}, expected only tensors and data")

    def _popped(self, count: int) -> list[Any]:
        # Values below a mark are not accessible until the mark is removed.
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise IndexError("its stack runs empty")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _popped_to_mark(self) -> list[Any]:
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def _storage(self, identity: Any) -> Storage:
        kind, name, key, _, count = _of_type(tuple, identity)
        dtype = _STORAGES[_of_type(Name, name).full]
        content = self.members[f"data/{_of_type(str, key)}"]
        if kind != "storage" or type(count) is not int or count * dtype.itemsize != len(content):
            raise ValueError(f"storage {key} claims another size than its {len(content)} bytes")
        return Storage(dtype, content)


def _of_type(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__.lower()} where {kind.__name__.lower()} belongs")
    return value


def _set_items(target: dict[Any, Any], values: list[Any]) -> None:
    for given, value in zip(values[::2], values[1::2], strict=True):
        key = _key(given)
        if key in target:
            raise ValueError(f"key {shown(key)} occurs twice")
        target[key] = value


def _key(given: Any) -> object:
    """Return a hashable key: text and integers unchanged, an object of its own for anything else.

    Other keys are not hashed, since the hash of a tuple that holds another one twice, and so on, would take forever.
    """
    if isinstance(given, str) or (isinstance(given, int) and abs(given) < _MAX_KEY):
        return given
    if isinstance(given, dict | list) or (isinstance(given, tuple) and any(isinstance(each, tuple) for each in given)):
        raise TypeError(f"{type(given).__name__} as a key")
    return Opaque(f"builtins.{type(given).__name__}")


def _named(name: str) -> Name:
    if name.startswith(_REBUILDS) and name not in {_TENSOR, _PARAMETER}:  # Other kinds of tensors are not supported.
        raise _Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(name)}")
    return Name(name)


def _called(function: Any, arguments: Any) -> object:
    name = _of_type(Name, function).full
    given = _of_type(tuple, arguments)
    if name == _DICT and not given:
        return {}
    if name == _PARAMETER:
        return _of_type(StoredTensor, given[0])
    if name == _TENSOR:
        return _tensor(*given)
    return _data(name)


def _data(name: str) -> Opaque:
    if name not in DATA_TYPES:
        raise _Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(name)}, and calls it")
    return Opaque(name)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, _gradient: Any, _hooks: Any) -> StoredTensor:
    content, dtype = _of_type(Storage, storage).content, storage.dtype
    numbers = (offset, *_of_type(tuple, shape), *_of_type(tuple, stride))
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor's offset, shape and stride are not whole numbers")
    if len(shape) != len(stride) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions has {len(stride)} strides")
    held = len(content) // dtype.itemsize
    if (claimed := math.prod(shape)) > held:
        raise _Refusal("RESOURCE", f"a tensor of shape {shown(shape)} claims {shown(claimed)} numbers of {held}")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if claimed and last >= held:
        raise ValueError(f"a tensor ends at number {shown(last)} of {held}")
    return StoredTensor(dtype, shape, stride, offset, content)
