"""Files of checkpoints: refusals, regular files, tensors in them, and the native format.

The native format is safetensors with a record in the header and a hash over the tensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.base import files
from harness.base.errors import InputError
from harness.base.outputs import CHECKPOINT, Output
from harness.base.records import as_plain, read_json, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn


Code = Literal[
    "NOT_REGULAR",
    "TOO_LARGE",
    "HASH_MISMATCH",
    "FORMAT",
    "PICKLE_GLOBAL",
    "ZIP_LAYOUT",
    "ARCHITECTURE",
    "SCHEMA",
    "NONFINITE",
    "RESOURCE",
]

SAVE_WEIGHTS_ALONE = "Save the weights alone: torch.save(model.state_dict(), path)."
COPY_AGAIN = "Copy the file again, or save it again."
MAX_BYTES = 2 << 30
"""Largest file; a ViT-B/16 with its average and Adam's states has 1.4 GB."""
MAX_DIMENSIONS = 16
RECORD_KEY = "harness"
"""The key of the record in a safetensors file's metadata."""
_SCHEMA = 1
MAX_HEADER_BYTES = 4 << 20
"""Largest header.

It is enough for tens of thousands of tensors, and parsed JSON takes more memory.
"""
_LENGTH_BYTES = 8
"""Bytes at the start of a safetensors file with the length of its header."""
_DTYPES = {
    **{f"F{bits}": getattr(torch, f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": getattr(torch, f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "BOOL": torch.bool,
}
_NEXT_STEPS: Mapping[Code, str] = {
    "HASH_MISMATCH": COPY_AGAIN,
    "NONFINITE": "Its training diverged: train it again.",
}
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError)


class CheckpointRefused(InputError):  # noqa: N818  The message begins with this word.
    """The refusal of a checkpoint; `code` is its reason in one word."""

    def __init__(self, code: Code, path: Path, fact: str, next_step: str) -> None:
        super().__init__(
            f"REFUSED[{code}] {path}: {fact}. Nothing was executed. {next_step}", code=code
        )


class Refusal(Exception):  # noqa: N818  As above.
    """The refusal of content, see `refusals_of`; by default the next step is that of the code."""

    def __init__(self, code: Code, fact: str, next_step: str = "") -> None:
        super().__init__(fact)
        self.code, self.next_step = code, next_step or _NEXT_STEPS.get(code, "")


@contextmanager
def refusals_of(path: Path, advice: str = SAVE_WEIGHTS_ALONE) -> Iterator[None]:
    """Turn refusals of the content of a file into a `CheckpointRefused`.

    Args:
        path: The file, for the message.
        advice: The next step for refusals without one.
    """
    try:
        yield
    except Refusal as refusal:
        raise CheckpointRefused(
            refusal.code, path, str(refusal), refusal.next_step or advice
        ) from None
    except MemoryError:
        next_step = "Free some memory, or check where the file comes from."
        raise CheckpointRefused(
            "RESOURCE", path, "it needs more memory than this machine has", next_step
        ) from None


def shown(text: object, *, length: int = 120) -> str:
    """Return text from a file for a message: one printable line, cut after `length` characters."""
    line = str(text)
    if len(line) > length:
        line = f"{line[:length]}..."
    if not line.isprintable():
        line = ascii(line)[1:-1]
    return line


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless `path` is a regular file, before long work."""
    try:
        files.require_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_regular(path: Path, *, beside: str = "") -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`.

    Args:
        path: The file.
        beside: The name of another file in its folder, which is then read instead. A link there is
            refused, since it may lead anywhere.

    Raises:
        CheckpointRefused: It is no regular file, too large, or unreadable; about `path`.
    """
    place = path.parent / beside if beside else path
    try:
        if beside and place.is_symlink():
            raise OSError(errno.ELOOP, "a link, not a file")
        return files.read_regular(place, max_bytes=MAX_BYTES, follow=not beside)
    except OSError as error:
        raise _unreadable(path, error, beside) from None


def _unreadable(path: Path, error: OSError, beside: str = "") -> CheckpointRefused:
    """Return the refusal of a file, or of one `beside` it, that cannot be read."""
    code: Code = "NOT_REGULAR"
    next_step = "Name a checkpoint file (.safetensors, .pt or .pth)."
    if error.errno == errno.EFBIG:
        code = "TOO_LARGE"
        next_step = SAVE_WEIGHTS_ALONE

    fact = f"cannot be opened ({error.strerror or error})"
    if beside:
        fact = f"its weights are in {shown(beside)!r} beside it, which {fact}"
        next_step = (
            "Copy both files into one folder, or export it again with its weights inside "
            "(external_data=False)."
        )
    return CheckpointRefused(code, path, fact, next_step)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor within the bytes `content`; `offset` and `stride` count elements.

    Every element must lie inside `content`, and there must be no more elements than it holds; the
    caller verifies both. Reading a tensor therefore takes no more memory than the file. Without a
    `stride` it is contiguous.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    content: memoryview
    offset: int = 0
    stride: tuple[int, ...] | None = None

    def read(self) -> Tensor:
        """Return a contiguous copy."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        size = self.dtype.itemsize
        byte_strides = None
        if self.stride is not None:
            byte_strides = [step * size for step in self.stride]
        # Untyped bytes, since the content may not be aligned; NumPy verifies the limits once more.
        elements = np.ndarray(
            self.shape,
            np.dtype(f"V{size}"),
            self.content,
            offset=self.offset * size,
            strides=byte_strides,
        )
        copied_bytes = elements.reshape(-1).copy().view(np.uint8)
        return torch.from_numpy(copied_bytes).view(self.dtype).reshape(self.shape)


def hash_tensors(tensors: Mapping[str, Tensor] | Mapping[str, StoredTensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if isinstance(tensor, StoredTensor):
            tensor = tensor.read()
        else:
            tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@record
class Record:
    """The record of a native checkpoint."""

    architecture: str
    arguments: Mapping[str, Any]
    classes: tuple[str, ...]
    training: dict[str, Any] | None = None
    """The full training config, None if unknown, as for a converted file."""
    data_sha256: str | None = None
    """SHA-256 of the training data, see `LabelledImages.sha256`."""
    validation: dict[str, Any] | None = None
    """Metrics on the validation images."""
    history: tuple[dict[str, Any], ...] = ()
    """One entry per epoch."""
    versions: dict[str, Any] = field(default_factory=dict)
    acceptance: dict[str, Any] | None = None
    """Date and verdict of its acceptance as the incumbent, and whether it was forced."""


def record_text(about: Record, tensors_sha256: str) -> str:
    """Return the JSON of a record, with a hash over its tensors and one over itself."""
    entries = {"schema": _SCHEMA, **as_plain(about), "tensors_sha256": tensors_sha256}
    return json.dumps({**entries, "record_sha256": _hash(entries)})


def _hash(entries: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _parsed(text: str) -> Any:
    """Return JSON as Python objects; raises `ValueError` for a duplicate key."""

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise ValueError(f"duplicate key among {shown(list(entries))}")
        return entries

    return json.loads(text, object_pairs_hook=mapping)


def read_native(content: bytes) -> tuple[dict[str, StoredTensor], Record | None]:
    """Return the tensors of a safetensors file and its record, None without one.

    Besides the format's own rules, no key may occur twice.

    Raises:
        Refusal: The file is not intact, its header is too long, or the record or the tensors have
            other hashes than the record names.
    """
    tensors, metadata = _read_safetensors(content)
    if RECORD_KEY not in metadata:
        return tensors, None

    record, expected = _read_record(metadata[RECORD_KEY])
    tensors_sha256 = hash_tensors(tensors)
    if tensors_sha256 != expected:
        raise Refusal(
            "HASH_MISMATCH",
            f"SHA-256 of the tensors is {tensors_sha256}, expected {shown(expected)}",
        )
    return tensors, record


def _read_safetensors(content: bytes) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file."""
    header_bytes = int.from_bytes(content[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + header_bytes
    if header_bytes > MAX_HEADER_BYTES and end <= len(content):
        fact = f"its header has {header_bytes} bytes, more than the limit of {MAX_HEADER_BYTES}"
        raise Refusal("RESOURCE", fact, "Save the weights alone, without long metadata.")

    try:
        if end > len(content):
            raise ValueError(f"its header claims {header_bytes} bytes of a file of {len(content)}")
        entries = _parsed(content[_LENGTH_BYTES:end].decode())
        metadata = entries.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are not text")
        return _tensors(entries, memoryview(content)[end:]), metadata
    except _MALFORMED as error:
        fact = f"not an intact safetensors file ({shown(error)})"
        raise Refusal("FORMAT", fact, COPY_AGAIN) from None


def _read_record(text: str) -> tuple[Record, str]:
    """Return a record from its JSON, and the hash of the tensors that it names."""
    try:
        entries = _parsed(text)
        # This hash protects the normalization, among others, which is not in the tensors.
        expected = entries.pop("record_sha256", None)
        if expected is not None:
            _expect_hash(entries, expected)

        schema = entries.pop("schema")
        tensors_sha256 = entries.pop("tensors_sha256")
        if schema != _SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
        if not isinstance(tensors_sha256, str):
            raise TypeError("wrong type of tensors_sha256")
        return read_json(Record, json.dumps(entries), where="record"), tensors_sha256
    except _MALFORMED as error:
        fact = f"the record in its header is malformed ({shown(str(error) or repr(error))})"
        raise Refusal("SCHEMA", fact, "Train or convert it with this version.") from None


def _expect_hash(entries: dict[str, Any], expected: object) -> None:
    """Raise `Refusal` unless the entries of a record have the expected hash."""
    record_sha256 = _hash(entries)
    if record_sha256 != expected:
        raise Refusal(
            "HASH_MISMATCH", f"SHA-256 of its record is {record_sha256}, expected {shown(expected)}"
        )


def _tensors(entries: Mapping[str, Any], data: memoryview) -> dict[str, StoredTensor]:
    """Return the described tensors, which must cover all of the data without gap or overlap."""
    tensors = {}
    extents = [(0, 0)]
    for name, entry in entries.items():
        dtype = _DTYPES[entry["dtype"]]
        shape = tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        if not _is_possible_shape(shape):
            raise ValueError(f"tensor {name} has an impossible shape")
        if not (type(begin) is type(end) is int and 0 <= begin <= end <= len(data)):
            raise ValueError(f"tensor {name} lies at {begin}-{end} of {len(data)} bytes")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise ValueError(
                f"tensor {name} of shape {shape} and {dtype} cannot have {end - begin} bytes"
            )
        tensors[name] = StoredTensor(dtype, shape, data[begin:end])
        extents.append((begin, end))

    extents = [*sorted(extents), (len(data), len(data))]
    for (_, end), (begin, _) in pairwise(extents):
        if begin != end:
            raise ValueError(
                f"a tensor, or the file, goes on at byte {begin}, the one before it ends at {end}"
            )
    return tensors


def _is_possible_shape(shape: tuple[Any, ...]) -> bool:
    if len(shape) > MAX_DIMENSIONS:
        return False
    return all(type(size) is int and 0 <= size < 1 << 63 for size in shape)


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format.

    The file appears complete or not at all.

    Raises:
        InputError: `path` is a file of another kind.
    """
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    content = save(tensors, metadata={RECORD_KEY: record_text(record, hash_tensors(tensors))})
    Output(path, CHECKPOINT).write(content)
