"""Files of `torch.save`, read without an unpickler: a pickle is data here, and no name in it is ever imported.

A pickle is a program for a stack machine. Python's unpickler imports and calls the names in it. Even a restricted
unpickler may hang or exhaust the memory. This machine knows only the instructions for dicts of tensors, numbers and
text. It returns descriptions of tensors, which are read later if they fit. The rules are:

- A pickle may call the constructors of a tensor, of an ordered dict, or of a type in `DATA_TYPES`. A call of the latter
  returns an `Opaque`. Any other call is refused.
- A name that a pickle does not call, such as a loss function among hyperparameters, becomes a `Name`.
- `Opaque` and `Name` are no weights: they may occur beside the loaded state dict, but not in it.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.networks.checkpoints.files import MAX_DIMENSIONS, Refusal, StoredTensor, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_MEMBERS = 20_000
"""Most members of an archive; each takes memory before it is verified."""
MAX_PICKLE_BYTES = 4 << 20
"""Most bytes of a pickle; it is enough for tens of thousands of tensors, with those of an optimizer."""
MAX_INSTRUCTIONS = 1_200_000
"""Most instructions of a pickle, since each may leave an object in memory."""
_MAX_KEY = 1 << 60
"""Integers beyond it may share one hash, and a dict of them would take forever."""

_OF_TORCHSCRIPT = re.compile(r"/(constants\.pkl$|code/)")
_FLAGS = 0x808
"""Flags of a member that torch.save sets: names in UTF-8, and sizes that follow the content."""
_NAME = re.compile(r"[^/\\\0]+(/[^/\\\0]+)+")
_OF_A_MARK = (pickletools.markobject, pickletools.stackslice)
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
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
DATA_TYPES = re.compile(
    r"""
    (__builtin__|builtins)\.(bytearray|bytes|complex|frozenset|list|range|set|slice|xrange)
    |_codecs\.encode|argparse\.Namespace|collections\.(Counter|defaultdict|deque)|decimal\.Decimal|fractions\.Fraction
    |datetime\.(date|datetime|time|timedelta|timezone)|functools\.partial|types\.SimpleNamespace|uuid\.UUID
    |pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path
    |torch\.(Size|device|torch_version\.TorchVersion)|torchvision\.transforms\.functional\.InterpolationMode
    |numpy\.(dtype|_?core\.numeric\._frombuffer|_?core\.multiarray\.(_reconstruct|scalar))
    |(lightning[._]fabric\.utilities\.data|(lightning\.pytorch|pytorch_lightning)\.utilities\.parsing)\.AttributeDict
    |omegaconf\.(base\.(Container)?Metadata|dictconfig\.DictConfig|listconfig\.ListConfig)
    |omegaconf\.nodes\.(Any|Boolean|Bytes|Enum|Float|Integer|Path|String)Node
    |easydict\.EasyDict|yacs\.config\.CfgNode|mmengine\.logging\.history_buffer\.HistoryBuffer
    |ml_collections\.config_dict\.config_dict\.(ConfigDict|FrozenConfigDict|FieldReference)
    """,
    re.VERBOSE,
)
"""Constructors of plain data that a pickle may call, for example in an optimizer's state. None is called here: a call
leaves an `Opaque`. Other calls would not run either, but are refused: a file that calls a shell is no checkpoint."""


@dataclass(frozen=True, eq=False)
class Name:
    """The name of an object that a pickle refers to; the object itself is never imported."""

    full: str


class Opaque(Name):
    """A value of an unread type; only the type's name is kept."""


def _of_type(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__.lower()} where {kind.__name__.lower()} belongs")
    return value


def _named(name: str) -> Name:
    if name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild")) and name not in {
        _TENSOR,
        _PARAMETER,
    }:
        raise Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(name)}")  # Other kinds of tensors.
    return Name(name)


def _called(function: Any, arguments: Any) -> object:
    name, given = _of_type(Name, function).full, _of_type(tuple, arguments)
    if name == "collections.OrderedDict" and not given:
        return {}
    if name == _PARAMETER:
        return _of_type(StoredTensor, given[0])
    return _tensor(*given) if name == _TENSOR else _made(function)


def _made(kind: Any) -> Opaque:
    if not DATA_TYPES.fullmatch(name := _of_type(Name, kind).full):
        raise Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(name)}, and calls it")
    return Opaque(name)


def _storage(identity: Any, members: Mapping[str, memoryview]) -> tuple[torch.dtype, memoryview]:
    """Return the type and the bytes that tensors share."""
    word, kind, key, _, count = _of_type(tuple, identity)
    dtype = _STORAGES[_of_type(Name, kind).full]
    content = members[f"data/{_of_type(str, key)}"]
    if word != "storage" or type(count) is not int or count * dtype.itemsize != len(content):
        raise ValueError(f"storage {key} claims another size than its {len(content)} bytes")
    return dtype, content


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, _gradient: Any, _hooks: Any
) -> StoredTensor:
    dtype, content = storage
    numbers = (offset, *_of_type(tuple, shape), *_of_type(tuple, stride))
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor's offset, shape and stride are not whole numbers")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions has {len(stride)} strides")
    held = len(content) // dtype.itemsize
    if (claimed := math.prod(shape)) > held:
        raise Refusal(
            "RESOURCE",
            f"a tensor of shape {shown(shape)} claims {shown(claimed)} numbers of {held}",
        )
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if claimed and last >= held:
        raise ValueError(f"a tensor ends at number {shown(last)} of {held}")
    return StoredTensor(dtype, shape, content, offset, stride)


def _extend(_: Any, target: Any, *values: Any) -> object:
    if not isinstance(target, Opaque):
        _of_type(list, target).extend(values)
    return target


def _set_items(_: Any, target: Any, *values: Any) -> object:
    if isinstance(target, Opaque):
        return target
    for given, value in zip(values[::2], values[1::2], strict=True):
        if isinstance(given, dict | list) or (
            isinstance(given, tuple) and any(isinstance(each, tuple) for each in given)
        ):
            raise TypeError(f"{type(given).__name__} as a key")
        # Other keys are not hashed: the hash of a tuple that holds another one twice, and so on, would take forever.
        plain = isinstance(given, str) or (isinstance(given, int) and abs(given) < _MAX_KEY)
        key: object = given if plain else Opaque(f"builtins.{type(given).__name__}")
        if key in _of_type(dict, target):
            raise ValueError(f"key {shown(key)} occurs twice")
        target[key] = value
    return target


_LITERALS = (
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
)
_STEPS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(_LITERALS, lambda argument: argument),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    **dict.fromkeys(
        ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"), lambda _, *values: values
    ),
    **dict.fromkeys(
        ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"), lambda _: Opaque("builtins.bytes")
    ),
    "BYTEARRAY8": lambda _: Opaque("builtins.bytearray"),
    "EMPTY_SET": lambda _: Opaque("builtins.set"),
    "FROZENSET": lambda _, *_values: Opaque("builtins.frozenset"),
    "GLOBAL": lambda names: _named(names.replace(" ", ".")),
    "STACK_GLOBAL": lambda _, *parts: _named(".".join(_of_type(str, part) for part in parts)),
    "REDUCE": lambda _, function, arguments: _called(function, arguments),
    "NEWOBJ": lambda _, kind, _arguments: _made(kind),
    **dict.fromkeys(("APPEND", "APPENDS", "ADDITEMS"), _extend),
    **dict.fromkeys(("SETITEM", "SETITEMS"), _set_items),
    # A state dict has the versions of its layers as an attribute, which the tensors do not need.
    "BUILD": lambda _, target, _state: (
        target if isinstance(target, Opaque) else _of_type(dict, target)
    ),
}
"""Instructions that replace values on the stack, by the function from their argument and these values to the new one.
`pickletools` knows the number of these values, or that they reach down to the mark."""


def read_members(content: bytes) -> dict[str, memoryview]:
    """Return the members of the archive in its one folder, by their names there; raises `Refusal`.

    Nothing is decompressed or copied. Members are views of `content`, so an archive takes no more memory than the file.
    Python's `zipfile` reads the directory, and compares each entry with the header of its member.
    """
    if (count := content.count(b"PK\x01\x02")) > MAX_MEMBERS:
        raise Refusal(
            "RESOURCE", f"a zip file of {count} members, more than the limit of {MAX_MEMBERS}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.header_offset)
            if any(_OF_TORCHSCRIPT.search(member.orig_filename) for member in members):
                raise Refusal("FORMAT", "a TorchScript archive, which holds code")
            ends = [*(member.header_offset for member in members[1:]), archive.start_dir]
            found: dict[str, memoryview] = {}
            for member, end in zip(members, ends, strict=True):
                name, header = member.orig_filename, member.header_offset
                if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
                    raise ValueError(
                        f"it has a member named {name!r}, which is no path in its one folder"
                    )
                if name.partition("/")[0] != members[0].orig_filename.partition("/")[0]:
                    raise ValueError(
                        f"it has two folders, those of {members[0].orig_filename} and {name}"
                    )
                if (inner := name.partition("/")[2]) in found:
                    raise ValueError(f"it has two members with the name {name}")
                if (
                    member.compress_type != zipfile.ZIP_STORED
                    or member.compress_size != member.file_size
                ):
                    raise ValueError("it has compressed members")
                archive.open(
                    member
                ).close()  # It raises an error if the directory and the member's own header differ.
                if struct.unpack_from("<2H", content, header + 6) != (
                    member.flag_bits,
                    member.compress_type,
                ):
                    raise ValueError(f"its directory and member {name} differ")
                if member.flag_bits & ~_FLAGS:
                    raise ValueError(
                        f"member {name} is of an unusual kind (flags {member.flag_bits:#x})"
                    )
                begin = (
                    header + 30 + sum(struct.unpack_from("<2H", content, header + 26))
                )  # After a name and an extra.
                if begin + member.file_size > end:
                    raise ValueError(f"member {name} overlaps what follows it")
                found[inner] = memoryview(content)[begin : begin + member.file_size]
                if zlib.crc32(found[inner]) != member.CRC:
                    raise ValueError(f"checksum of {name} does not match")
            return found
    except (
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        OSError,
        EOFError,
        OverflowError,
        struct.error,
    ) as error:
        # RuntimeError: an unknown kind of archive; ValueError: impossible names and offsets.
        raise Refusal(
            "ZIP_LAYOUT", f"not an intact zip file of torch.save ({shown(error)})"
        ) from None


def read_pickle(members: Mapping[str, memoryview]) -> object:
    """Return the object that `torch.save` wrote, from the members of its zip file; raises `Refusal`.

    Dicts, lists, tuples, numbers and text keep their types. Tensors are `StoredTensor`, and all else is `Opaque` or a
    `Name`.
    """
    try:
        if "data.pkl" not in members:
            raise Refusal(
                "FORMAT", "a zip file, but not one that torch.save wrote for a state dict"
            )
        if bytes(members.get("byteorder", b"little")) != b"little":
            raise Refusal("FORMAT", "its numbers are not in little-endian order")
        if (size := len(members["data.pkl"])) > MAX_PICKLE_BYTES:
            raise Refusal(
                "RESOURCE",
                f"its pickle has {size} bytes, more than the limit of {MAX_PICKLE_BYTES}",
            )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Old kinds of text with odd escapes warn, and are refused anyway.
            return _run(bytes(members["data.pkl"]), members)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise Refusal("FORMAT", f"its pickle is not one of torch.save ({shown(error)})") from None


def _run(content: bytes, members: Mapping[str, memoryview]) -> object:
    """Run a pickle for its data, and refuse any other instruction."""
    stack: list[Any] = []
    below: list[
        list[Any]
    ] = []  # The values below each mark, which are not accessible until it is removed.
    memo: dict[int, Any] = {}
    end = -1
    instructions: Iterable[tuple[Any, Any, Any]] = pickletools.genops(content)
    for number, (opcode, argument, position) in enumerate(instructions):
        if number == MAX_INSTRUCTIONS:
            raise Refusal("RESOURCE", f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
        name, end = opcode.name, position or 0
        if name in _STEPS:
            marked: list[Any] = []
            if pickletools.markobject in opcode.stack_before:
                marked, stack = stack, below.pop()
            taken = [stack.pop() for kind in opcode.stack_before if kind not in _OF_A_MARK]
            stack.append(_STEPS[name](argument, *taken[::-1], *marked))
        elif name == "MARK":
            below.append(stack)
            stack = []
        elif name in {"BINPUT", "LONG_BINPUT", "MEMOIZE"}:
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            stack.append(memo[argument])
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), members))
        elif name not in {"PROTO", "FRAME", "STOP"}:
            wanted = argument.replace(" ", ".") if name == "INST" else name
            raise Refusal(
                "PICKLE_GLOBAL", f"its pickle wants {shown(wanted)}, expected only tensors and data"
            )
    if below or end + 1 != len(content):
        raise ValueError("bytes follow its end")
    (value,) = stack
    return value
