"""Files of `torch.save`, read without an unpickler: no name in a pickle is ever imported.

A pickle is a program for a stack machine. Python's unpickler imports and calls the names in it.
Even a restricted unpickler may hang or exhaust the memory. This machine knows only the instructions
for dicts of tensors, numbers and text. It returns descriptions of tensors, which are read later if
they fit. The rules are:

- A pickle may call the constructors of a tensor, of an ordered dict, or of a type in `DATA_TYPES`.
  A call of the latter returns an `Opaque`. Any other call is refused.
- A name that a pickle does not call, such as a loss function among hyperparameters, becomes a
  `Name`.
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
"""Most bytes of a pickle.

It is enough for tens of thousands of tensors, with those of an optimizer.
"""
MAX_INSTRUCTIONS = 1_200_000
"""Most instructions of a pickle, since each may leave an object in memory."""
_MAX_KEY = 1 << 60
"""Integers beyond it may share one hash, and a dict of them would take forever."""

_TORCHSCRIPT_MEMBER = re.compile(r"/(constants\.pkl$|code/)")
_TORCH_SAVE_FLAGS = 0x808
"""Flags of a member that torch.save sets: names in UTF-8, and sizes that follow the content."""
_MEMBER_NAME = re.compile(r"[^/\\\0]+(/[^/\\\0]+)+")
_LOCAL_HEADER_BYTES = 30
"""Bytes of a member's own header before its name and its extra field."""
_FLAGS_OFFSET = 6
"""Offset of flags and compression in a member's own header."""
_LENGTHS_OFFSET = 26
"""Offset of the lengths of name and extra field in a member's own header."""

_DOWN_TO_MARK = (pickletools.markobject, pickletools.stackslice)
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
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
    |_codecs\.encode|argparse\.Namespace|collections\.(Counter|defaultdict|deque)
    |decimal\.Decimal|fractions\.Fraction|functools\.partial|types\.SimpleNamespace|uuid\.UUID
    |datetime\.(date|datetime|time|timedelta|timezone)
    |pathlib(\._local)?\.(Pure)?(Posix|Windows)?Path
    |torch\.(Size|device|torch_version\.TorchVersion)
    |torchvision\.transforms\.functional\.InterpolationMode
    |numpy\.(dtype|_?core\.numeric\._frombuffer|_?core\.multiarray\.(_reconstruct|scalar))
    |lightning[._]fabric\.utilities\.data\.AttributeDict
    |(lightning\.pytorch|pytorch_lightning)\.utilities\.parsing\.AttributeDict
    |omegaconf\.(base\.(Container)?Metadata|dictconfig\.DictConfig|listconfig\.ListConfig)
    |omegaconf\.nodes\.(Any|Boolean|Bytes|Enum|Float|Integer|Path|String)Node
    |easydict\.EasyDict|yacs\.config\.CfgNode
    |mmengine\.logging\.history_buffer\.HistoryBuffer
    |ml_collections\.config_dict\.config_dict\.(ConfigDict|FrozenConfigDict|FieldReference)
    """,
    re.VERBOSE,
)
"""Constructors of plain data that a pickle may call, for example in an optimizer's state.

None is called here: a call leaves an `Opaque`. Other calls would not run either, but are refused: a
file that calls a shell is no checkpoint.
"""


@dataclass(frozen=True, eq=False)
class Name:
    """The name of an object that a pickle refers to; the object itself is never imported."""

    full: str


class Opaque(Name):
    """A value of an unread type; only the type's name is kept."""


def _of_type(kind: type, value: Any) -> Any:
    """Return the value; raises `TypeError` if it has another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__.lower()} where {kind.__name__.lower()} belongs")
    return value


def _as_name(full_name: str) -> Name:
    """Return a name of a pickle; raises `Refusal` for another way to build a tensor."""
    rebuilds = full_name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild"))
    if rebuilds and full_name not in {_TENSOR, _PARAMETER}:
        raise Refusal("PICKLE_GLOBAL", f"its pickle wants {shown(full_name)}")
    return Name(full_name)


def _result_of_call(function: Any, arguments: Any) -> object:
    """Return the description of the object that a call would build."""
    name = _of_type(Name, function).full
    values = _of_type(tuple, arguments)
    if name == "collections.OrderedDict" and not values:
        return {}
    if name == _PARAMETER:
        return _of_type(StoredTensor, values[0])
    if name == _TENSOR:
        return _tensor(*values)
    return _opaque_of(function)


def _opaque_of(kind: Any) -> Opaque:
    """Return a value of a type in `DATA_TYPES`; raises `Refusal` for another type."""
    name = _of_type(Name, kind).full
    if not DATA_TYPES.fullmatch(name):
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
    """Return a tensor whose elements all lie inside the storage."""
    dtype, content = storage
    numbers = (offset, *_of_type(tuple, shape), *_of_type(tuple, stride))
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a tensor's offset, shape and stride are not whole numbers")
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor of {len(shape)} dimensions has {len(stride)} strides")

    available = len(content) // dtype.itemsize
    claimed = math.prod(shape)
    if claimed > available:
        raise Refusal(
            "RESOURCE",
            f"a tensor of shape {shown(shape)} claims {shown(claimed)} numbers of {available}",
        )
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if claimed and last >= available:
        raise ValueError(f"a tensor ends at number {shown(last)} of {available}")
    return StoredTensor(dtype, shape, content, offset, stride)


def _extend(_: Any, target: Any, *values: Any) -> object:
    if not isinstance(target, Opaque):
        _of_type(list, target).extend(values)
    return target


def _set_items(_: Any, target: Any, *keys_and_values: Any) -> object:
    if isinstance(target, Opaque):
        return target
    pairs = zip(keys_and_values[::2], keys_and_values[1::2], strict=True)
    for pickled_key, value in pairs:
        key = _as_key(pickled_key)
        if key in _of_type(dict, target):
            raise ValueError(f"key {shown(key)} occurs twice")
        target[key] = value
    return target


def _as_key(pickled_key: Any) -> object:
    """Return a key that is safe to hash; raises `TypeError` for one that no state dict has."""
    if isinstance(pickled_key, dict | list) or _is_nested_tuple(pickled_key):
        raise TypeError(f"{type(pickled_key).__name__} as a key")
    if isinstance(pickled_key, str):
        return pickled_key
    if isinstance(pickled_key, int) and abs(pickled_key) < _MAX_KEY:
        return pickled_key
    # Other keys are not hashed: the hash of a tuple that holds another one twice, and so on, would
    # take forever.
    return Opaque(f"builtins.{type(pickled_key).__name__}")


def _is_nested_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(element, tuple) for element in value)


def _name_on_stack(_: Any, *parts: Any) -> Name:
    return _as_name(".".join(_of_type(str, part) for part in parts))


def _set_state(_: Any, target: Any, _state: Any) -> object:
    # A state dict has the versions of its layers as an attribute, which the tensors do not need.
    if isinstance(target, Opaque):
        return target
    return _of_type(dict, target)


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
_TUPLES = ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8")
_STEPS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(_LITERALS, lambda argument: argument),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    **dict.fromkeys(_TUPLES, lambda _, *values: values),
    **dict.fromkeys(_BYTES, lambda _: Opaque("builtins.bytes")),
    "BYTEARRAY8": lambda _: Opaque("builtins.bytearray"),
    "EMPTY_SET": lambda _: Opaque("builtins.set"),
    "FROZENSET": lambda _, *_values: Opaque("builtins.frozenset"),
    "GLOBAL": lambda names: _as_name(names.replace(" ", ".")),
    "STACK_GLOBAL": _name_on_stack,
    "REDUCE": lambda _, function, arguments: _result_of_call(function, arguments),
    "NEWOBJ": lambda _, kind, _arguments: _opaque_of(kind),
    **dict.fromkeys(("APPEND", "APPENDS", "ADDITEMS"), _extend),
    **dict.fromkeys(("SETITEM", "SETITEMS"), _set_items),
    "BUILD": _set_state,
}
"""Instructions that replace values on the stack.

Each has the function from its argument and these values to the new value. `pickletools` knows the
number of these values, or that they reach down to the mark.
"""


def read_members(content: bytes) -> dict[str, memoryview]:
    """Return the members of an archive of `torch.save`, by their names in its one folder.

    Nothing is decompressed or copied. Members are views of `content`, so an archive takes no more
    memory than the file.

    Raises:
        Refusal: The archive is TorchScript, has too many members, or is not intact.
    """
    # Before `zipfile` reads the directory, which takes memory for each entry.
    count = content.count(b"PK\x01\x02")
    if count > MAX_MEMBERS:
        raise Refusal(
            "RESOURCE", f"a zip file of {count} members, more than the limit of {MAX_MEMBERS}"
        )

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _members_of(archive, content)
    except (
        zipfile.BadZipFile,
        RuntimeError,  # An unknown kind of archive.
        ValueError,  # Impossible names and offsets.
        OSError,
        EOFError,
        OverflowError,
        struct.error,
    ) as error:
        fact = f"not an intact zip file of torch.save ({shown(error)})"
        raise Refusal("ZIP_LAYOUT", fact) from None


def _members_of(archive: zipfile.ZipFile, content: bytes) -> dict[str, memoryview]:
    """Return the verified members of an archive, by their names in its one folder."""
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    if any(_TORCHSCRIPT_MEMBER.search(member.orig_filename) for member in members):
        raise Refusal("FORMAT", "a TorchScript archive, which holds code")

    contents: dict[str, memoryview] = {}
    ends = [*(member.header_offset for member in members[1:]), archive.start_dir]
    for member, end in zip(members, ends, strict=True):
        name = _name_in_folder(member, members[0])
        if name in contents:
            raise ValueError(f"it has two members with the name {member.orig_filename}")
        _expect_consistent_headers(archive, member, content)
        contents[name] = _content_of(member, content, end)
    return contents


def _name_in_folder(member: zipfile.ZipInfo, first: zipfile.ZipInfo) -> str:
    """Return a member's path below the folder of the first member."""
    full_name = member.orig_filename
    if not _MEMBER_NAME.fullmatch(full_name) or {".", ".."} & set(full_name.split("/")):
        raise ValueError(f"it has a member named {full_name!r}, which is no path in its one folder")
    folder, _, name = full_name.partition("/")
    if folder != first.orig_filename.partition("/")[0]:
        raise ValueError(f"it has two folders, those of {first.orig_filename} and {full_name}")
    return name


def _expect_consistent_headers(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes
) -> None:
    """Raise an error unless the directory and a member's own header describe the same content."""
    name = member.orig_filename
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        raise ValueError("it has compressed members")
    # Opening raises an error if the directory and the member's own header differ.
    archive.open(member).close()
    own_header = struct.unpack_from("<2H", content, member.header_offset + _FLAGS_OFFSET)
    if own_header != (member.flag_bits, member.compress_type):
        raise ValueError(f"its directory and member {name} differ")
    if member.flag_bits & ~_TORCH_SAVE_FLAGS:
        raise ValueError(f"member {name} is of an unusual kind (flags {member.flag_bits:#x})")


def _content_of(member: zipfile.ZipInfo, content: bytes, end: int) -> memoryview:
    """Return the bytes of a member, which lie before `end` and have its checksum."""
    name, header = member.orig_filename, member.header_offset
    name_bytes, extra_bytes = struct.unpack_from("<2H", content, header + _LENGTHS_OFFSET)
    begin = header + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    if begin + member.file_size > end:
        raise ValueError(f"member {name} overlaps what follows it")
    member_content = memoryview(content)[begin : begin + member.file_size]
    if zlib.crc32(member_content) != member.CRC:
        raise ValueError(f"checksum of {name} does not match")
    return member_content


def read_pickle(members: Mapping[str, memoryview]) -> object:
    """Return the object that `torch.save` wrote, from the members of its zip file.

    Dicts, lists, tuples, numbers and text keep their types. Tensors are `StoredTensor`, and all
    else is `Opaque` or a `Name`.

    Raises:
        Refusal: The pickle is too large, calls a function, or is not one of `torch.save`.
    """
    try:
        content = _pickle_of(members)
        with warnings.catch_warnings():
            # Old kinds of text with odd escapes warn, and are refused anyway.
            warnings.simplefilter("ignore")
            return _run(content, members)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise Refusal("FORMAT", f"its pickle is not one of torch.save ({shown(error)})") from None


def _pickle_of(members: Mapping[str, memoryview]) -> bytes:
    """Return the pickle among the members; raises `Refusal` if it cannot be read here."""
    if "data.pkl" not in members:
        raise Refusal("FORMAT", "a zip file, but not one that torch.save wrote for a state dict")
    if bytes(members.get("byteorder", b"little")) != b"little":
        raise Refusal("FORMAT", "its numbers are not in little-endian order")
    size = len(members["data.pkl"])
    if size > MAX_PICKLE_BYTES:
        raise Refusal(
            "RESOURCE", f"its pickle has {size} bytes, more than the limit of {MAX_PICKLE_BYTES}"
        )
    return bytes(members["data.pkl"])


def _run(content: bytes, members: Mapping[str, memoryview]) -> object:
    """Run a pickle for its data, and refuse any other instruction."""
    machine = _Machine(members)
    end = -1
    instructions: Iterable[tuple[Any, Any, Any]] = pickletools.genops(content)
    for number, (opcode, argument, position) in enumerate(instructions):
        if number == MAX_INSTRUCTIONS:
            raise Refusal("RESOURCE", f"its pickle has more than {MAX_INSTRUCTIONS} instructions")
        end = position or 0
        machine.execute(opcode, argument)
    if machine.below_marks or end + 1 != len(content):
        raise ValueError("bytes follow its end")
    (value,) = machine.stack
    return value


class _Machine:
    """The state of a pickle's stack machine.

    Attributes:
        stack: The values above the last mark.
        below_marks: The values below each mark, which are not accessible until it is removed.
        memo: Values by the number under which the pickle refers to them again.
    """

    def __init__(self, members: Mapping[str, memoryview]) -> None:
        self._members = members
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def execute(self, opcode: Any, argument: Any) -> None:
        """Execute one instruction of `pickletools`; raises `Refusal` for one without data."""
        name = opcode.name
        if name in _STEPS:
            values = self._take_values(opcode)
            self.stack.append(_STEPS[name](argument, *values))
        elif name == "MARK":
            self.below_marks.append(self.stack)
            self.stack = []
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1]
        elif name in {"BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo[argument])
        elif name == "BINPERSID":
            self.stack.append(_storage(self.stack.pop(), self._members))
        elif name not in {"PROTO", "FRAME", "STOP"}:
            wanted = argument.replace(" ", ".") if name == "INST" else name
            raise Refusal(
                "PICKLE_GLOBAL", f"its pickle wants {shown(wanted)}, expected only tensors and data"
            )

    def _take_values(self, opcode: Any) -> list[Any]:
        """Remove the values that an instruction replaces, and return them in their order."""
        above_mark: list[Any] = []
        if pickletools.markobject in opcode.stack_before:
            above_mark = self.stack
            self.stack = self.below_marks.pop()
        below_mark = [self.stack.pop() for kind in opcode.stack_before if kind not in _DOWN_TO_MARK]
        return below_mark[::-1] + above_mark
