"""Safetensors files: the header checked against the file, the record in it, the hash over the tensors."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import InputError
from harness.networks.checkpoints.records import (
    RECORD_KEY,
    Record,
    RecordDamagedError,
    parse_record,
    without_duplicates,
)
from harness.networks.checkpoints.refusals import COPY_AGAIN, CheckpointRefused, shown
from harness.networks.checkpoints.tensors import StoredTensor, contiguous_stride, hash_stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_HEADER_BYTES = 4 << 20
"""Larger headers are refused: this is enough for tens of thousands of tensors, and JSON grows when it is parsed."""

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


def read_native(content: bytes, path: Path) -> tuple[dict[str, StoredTensor], Record | None]:
    """Return the tensors of a safetensors file and its record, None when it has none; raises `CheckpointRefused`.

    Besides the format's own rules, no key may stand twice, and the tensors of a file with a record must have the hash
    that the record names.
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
        fact = f"SHA-256 of the tensors is {found}, the record says {shown(expected)}"
        raise CheckpointRefused("HASH_MISMATCH", path, fact, COPY_AGAIN)
    return tensors, record


def _parts(content: bytes, path: Path) -> tuple[bytes, memoryview]:
    """Return header and data."""
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
    """Return the described tensors, which must follow each other through all of the data."""
    tensors, extents = {}, []
    for name, entry in entries.items():
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
            raise ValueError(f"tensor {name} has no possible shape")
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
