"""The native format: safetensors with a record in the header and a hash over the tensors."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import InputError
from harness.base.outputs import CHECKPOINT, Output
from harness.base.records import as_plain, read_json, record
from harness.networks.checkpoints.files import COPY_AGAIN, CheckpointRefused, shown
from harness.networks.checkpoints.tensors import StoredTensor, contiguous_stride, hash_stored, hash_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

RECORD_KEY = "harness"
"""The key of the record in a safetensors file's metadata."""
_SCHEMA = 1
MAX_HEADER_BYTES = 4 << 20
"""Largest header; it is enough for tens of thousands of tensors, and parsed JSON takes more memory."""
_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 16
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "BOOL": torch.bool,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
}


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


class RecordDamagedError(Exception):
    """A record without the hash that it names: it was changed after it was written."""


def record_text(about: Record, tensors_sha256: str) -> str:
    """Return the JSON of a record, with a hash over its tensors and one over itself."""
    entries = {"schema": _SCHEMA, **as_plain(about), "tensors_sha256": tensors_sha256}
    return json.dumps({**entries, "record_sha256": _hash(entries)})


def parse_record(text: str) -> tuple[Record, str]:
    """Return the record of a JSON text and the hash over the tensors in it.

    Raises `RecordDamagedError` if the record names another hash over itself than it has. The hash protects the
    normalization, among others. Raises `ValueError`, `TypeError`, `KeyError`, `AttributeError`, `RecursionError` or
    `InputError` for a malformed text.
    """
    entries = json.loads(text, object_pairs_hook=without_duplicates)
    record_sha256 = entries.pop("record_sha256", None)
    if record_sha256 is not None and record_sha256 != (found := _hash(entries)):
        raise RecordDamagedError(f"SHA-256 of its record is {found}, expected {record_sha256}")
    schema, tensors_sha256 = entries.pop("schema"), entries.pop("tensors_sha256")
    if schema != _SCHEMA:
        raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
    if not isinstance(tensors_sha256, str):
        raise TypeError("wrong type of tensors_sha256")
    return read_json(Record, json.dumps(entries), where="record"), tensors_sha256


def _hash(entries: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict; raises `ValueError` for a duplicate key."""
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"duplicate key {key!r}")
        mapping[key] = value
    return mapping


def read_native(content: bytes, path: Path) -> tuple[dict[str, StoredTensor], Record | None]:
    """Return the tensors of a safetensors file and its record, None without one; raises `CheckpointRefused`.

    Besides the format's own rules, no key may occur twice. The tensors of a file with a record must have the hash in
    it.
    """
    header, data = _parts(content, path)
    try:
        entries = json.loads(header.decode(), object_pairs_hook=without_duplicates)
        metadata = entries.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are not text")
        tensors = _tensors(entries, data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError) as error:
        fact = f"not an intact safetensors file ({shown(error)})"
        raise CheckpointRefused("FORMAT", path, fact, COPY_AGAIN) from None
    if RECORD_KEY not in metadata:
        return tensors, None
    try:
        record, expected = parse_record(metadata[RECORD_KEY])
    except RecordDamagedError as error:
        raise CheckpointRefused("HASH_MISMATCH", path, shown(error, length=200), COPY_AGAIN) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError) as error:
        fact = f"the record in its header is malformed ({shown(str(error) or repr(error))})"
        raise CheckpointRefused("SCHEMA", path, fact, "Train or convert it with this version.") from None
    if (found := hash_stored(tensors)) != expected:
        fact = f"SHA-256 of the tensors is {found}, expected {shown(expected)}"
        raise CheckpointRefused("HASH_MISMATCH", path, fact, COPY_AGAIN)
    return tensors, record


def _parts(content: bytes, path: Path) -> tuple[bytes, memoryview]:
    """Return header and data of a file."""
    (size,) = struct.unpack("<Q", content[:_LENGTH_BYTES])
    if size > len(content) - _LENGTH_BYTES:
        fact = f"not an intact safetensors file (its header claims {size} bytes of a file of {len(content)})"
        raise CheckpointRefused("FORMAT", path, fact, COPY_AGAIN)
    if size > MAX_HEADER_BYTES:
        fact = f"its header has {size} bytes, more than the limit of {MAX_HEADER_BYTES}"
        raise CheckpointRefused("RESOURCE", path, fact, "Save the weights alone, without long metadata.")
    end = _LENGTH_BYTES + size
    return content[_LENGTH_BYTES:end], memoryview(content)[end:]


def _tensors(entries: Mapping[str, Any], data: memoryview) -> dict[str, StoredTensor]:
    """Return the described tensors, which must cover all of the data without gap or overlap."""
    tensors, extents = {}, []
    for name, entry in entries.items():
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
            raise ValueError(f"tensor {name} has an impossible shape")
        if not (type(begin) is type(end) is int and 0 <= begin <= end <= len(data)):
            raise ValueError(f"tensor {name} lies at {begin}-{end} of {len(data)} bytes")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise ValueError(f"tensor {name} of shape {shape} and {dtype} cannot have {end - begin} bytes")
        tensors[name] = StoredTensor(dtype, shape, contiguous_stride(shape), 0, data[begin:end])
        extents.append((begin, end))
    covered = 0
    for begin, end in sorted(extents):
        if begin != covered:
            raise ValueError(f"a tensor begins at byte {begin}, the one before it ends at {covered}")
        covered = end
    if covered != len(data):
        raise ValueError(f"its tensors have {covered} bytes, the file has {len(data)} for them")
    return tensors


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format; the file appears complete or not at all.

    Raises `InputError` if `path` is a file of another kind.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata={RECORD_KEY: record_text(record, hash_tensors(tensors))})
    Output(path, CHECKPOINT).write(content)
