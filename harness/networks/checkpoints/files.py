"""Files of checkpoints: refusals, the bytes of a regular file, tensors in them, and the native format.

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
"""Largest header; it is enough for tens of thousands of tensors, and parsed JSON takes more memory."""
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
    """Turn refusals of the content of a file into a `CheckpointRefused`; `advice` is for those without a next step."""
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
    """Return text from a file for a message: one line, printable, shortened to `length` characters."""
    line = str(text)
    line = line if len(line) <= length else f"{line[:length]}..."
    return line if line.isprintable() else ascii(line)[1:-1]


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless `path` is a regular file; for an early check before long work."""
    try:
        files.require_regular(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_regular(path: Path, *, beside: str = "") -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`, or of one `beside` it, with this name.

    A link beside it is refused, since it may lead anywhere. Raises `CheckpointRefused` about `path` for anything else.
    """
    place = path.parent / beside if beside else path
    try:
        if beside and place.is_symlink():
            raise OSError(errno.ELOOP, "a link, not a file")
        return files.read_regular(place, max_bytes=MAX_BYTES, follow=not beside)
    except OSError as error:
        raise _unreadable(path, error, beside) from None


def _unreadable(path: Path, error: OSError, beside: str = "") -> CheckpointRefused:
    too_large = error.errno == errno.EFBIG
    next_step = (
        SAVE_WEIGHTS_ALONE if too_large else "Name a checkpoint file (.safetensors, .pt or .pth)."
    )
    fact = f"cannot be opened ({error.strerror or error})"
    if beside:
        next_step = "Copy both files into one folder, or export it again with its weights inside (external_data=False)."
        fact = f"its weights are in {shown(beside)!r} beside it, which {fact}"
    return CheckpointRefused("TOO_LARGE" if too_large else "NOT_REGULAR", path, fact, next_step)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor within the bytes `content`; `offset` and `stride` count elements.

    Every element must lie inside `content`, and there must be no more elements than it holds; the caller verifies both.
    Reading a tensor therefore takes no more memory than the file. Without a `stride` it is contiguous.
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
        # Untyped bytes, since the content may not be aligned; NumPy verifies the limits once more.
        elements = np.ndarray(
            self.shape,
            np.dtype(f"V{size}"),
            self.content,
            offset=self.offset * size,
            strides=None if self.stride is None else [step * size for step in self.stride],
        )
        return (
            torch.from_numpy(elements.reshape(-1).copy().view(np.uint8))
            .view(self.dtype)
            .reshape(self.shape)
        )


def hash_tensors(tensors: Mapping[str, Tensor] | Mapping[str, StoredTensor]) -> str:
    """Return the SHA-256 over names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        given = tensors[name]
        tensor = (
            given.read() if isinstance(given, StoredTensor) else given.detach().cpu().contiguous()
        )
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
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError(f"duplicate key among {shown(list(found))}")
        return found

    return json.loads(text, object_pairs_hook=mapping)


def read_native(content: bytes) -> tuple[dict[str, StoredTensor], Record | None]:
    """Return the tensors of a safetensors file and its record, None without one; raises `Refusal`.

    Besides the format's own rules, no key may occur twice. The record and the tensors must have the hashes in the
    record; the former protects the normalization, among others.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    if 8 + MAX_HEADER_BYTES < end <= len(content):
        fact = f"its header has {end - 8} bytes, more than the limit of {MAX_HEADER_BYTES}"
        raise Refusal("RESOURCE", fact, "Save the weights alone, without long metadata.")
    try:
        if end > len(content):
            raise ValueError(f"its header claims {end - 8} bytes of a file of {len(content)}")
        entries = _parsed(content[8:end].decode())
        metadata = entries.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are not text")
        tensors = _tensors(entries, memoryview(content)[end:])
    except _MALFORMED as error:
        raise Refusal(
            "FORMAT", f"not an intact safetensors file ({shown(error)})", COPY_AGAIN
        ) from None
    if RECORD_KEY not in metadata:
        return tensors, None
    try:
        entries = _parsed(metadata[RECORD_KEY])
        named = entries.pop("record_sha256", None)
        if named is not None and named != (found := _hash(entries)):
            raise Refusal(
                "HASH_MISMATCH", f"SHA-256 of its record is {found}, expected {shown(named)}"
            )
        schema, expected = entries.pop("schema"), entries.pop("tensors_sha256")
        if schema != _SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
        if not isinstance(expected, str):
            raise TypeError("wrong type of tensors_sha256")
        record = read_json(Record, json.dumps(entries), where="record")
    except _MALFORMED as error:
        fact = f"the record in its header is malformed ({shown(str(error) or repr(error))})"
        raise Refusal("SCHEMA", fact, "Train or convert it with this version.") from None
    if (found := hash_tensors(tensors)) != expected:
        raise Refusal(
            "HASH_MISMATCH", f"SHA-256 of the tensors is {found}, expected {shown(expected)}"
        )
    return tensors, record


def _tensors(entries: Mapping[str, Any], data: memoryview) -> dict[str, StoredTensor]:
    """Return the described tensors, which must cover all of the data without gap or overlap."""
    tensors, extents = {}, [(0, 0)]
    for name, entry in entries.items():
        dtype, shape, (begin, end) = (
            _DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            entry["data_offsets"],
        )
        if len(shape) > MAX_DIMENSIONS or not all(
            type(size) is int and 0 <= size < 1 << 63 for size in shape
        ):
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


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format; the file appears complete or not at all.

    Raises `InputError` if `path` is a file of another kind.
    """
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    content = save(tensors, metadata={RECORD_KEY: record_text(record, hash_tensors(tensors))})
    Output(path, CHECKPOINT).write(content)
