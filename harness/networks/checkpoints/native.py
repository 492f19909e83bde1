"""The native format: safetensors with a record in the header and a hash over the tensors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from harness.base.errors import InputError
from harness.base.outputs import CHECKPOINT, Output
from harness.base.records import as_plain, read_json, record
from harness.networks.checkpoints.files import (
    COPY_AGAIN,
    MAX_DIMENSIONS,
    CheckpointRefused,
    StoredTensor,
    hash_tensors,
    shown,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

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
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, InputError)


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


def read_native(content: bytes, path: Path) -> tuple[dict[str, StoredTensor], Record | None]:
    """Return the tensors of a safetensors file and its record, None without one; raises `CheckpointRefused`.

    Besides the format's own rules, no key may occur twice. The record and the tensors must have the hashes in the
    record; the former protects the normalization, among others.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    if 8 + MAX_HEADER_BYTES < end <= len(content):
        fact = f"its header has {end - 8} bytes, more than the limit of {MAX_HEADER_BYTES}"
        raise CheckpointRefused("RESOURCE", path, fact, "Save the weights alone, without long metadata.")
    try:
        if end > len(content):
            raise ValueError(f"its header claims {end - 8} bytes of a file of {len(content)}")
        entries = _parsed(content[8:end].decode())
        metadata = entries.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata are not text")
        tensors = _tensors(entries, memoryview(content)[end:])
    except _MALFORMED as error:
        fact = f"not an intact safetensors file ({shown(error)})"
        raise CheckpointRefused("FORMAT", path, fact, COPY_AGAIN) from None
    if RECORD_KEY not in metadata:
        return tensors, None
    try:
        entries = _parsed(metadata[RECORD_KEY])
        named = entries.pop("record_sha256", None)
        if named is not None and named != (found := _hash(entries)):
            fact = f"SHA-256 of its record is {found}, expected {shown(named)}"
            raise CheckpointRefused("HASH_MISMATCH", path, fact, COPY_AGAIN)
        schema, expected = entries.pop("schema"), entries.pop("tensors_sha256")
        if schema != _SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
        if not isinstance(expected, str):
            raise TypeError("wrong type of tensors_sha256")
        record = read_json(Record, json.dumps(entries), where="record")
    except CheckpointRefused:
        raise
    except _MALFORMED as error:
        fact = f"the record in its header is malformed ({shown(str(error) or repr(error))})"
        raise CheckpointRefused("SCHEMA", path, fact, "Train or convert it with this version.") from None
    if (found := hash_tensors(tensors)) != expected:
        fact = f"SHA-256 of the tensors is {found}, expected {shown(expected)}"
        raise CheckpointRefused("HASH_MISMATCH", path, fact, COPY_AGAIN)
    return tensors, record


def _tensors(entries: Mapping[str, Any], data: memoryview) -> dict[str, StoredTensor]:
    """Return the described tensors, which must cover all of the data without gap or overlap."""
    tensors, extents = {}, [(0, 0)]
    for name, entry in entries.items():
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
        if len(shape) > MAX_DIMENSIONS or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
            raise ValueError(f"tensor {name} has an impossible shape")
        if not (type(begin) is type(end) is int and 0 <= begin <= end <= len(data)):
            raise ValueError(f"tensor {name} lies at {begin}-{end} of {len(data)} bytes")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise ValueError(f"tensor {name} of shape {shape} and {dtype} cannot have {end - begin} bytes")
        tensors[name] = StoredTensor(dtype, shape, data[begin:end])
        extents.append((begin, end))
    extents = [*sorted(extents), (len(data), len(data))]
    for (_, end), (begin, _) in pairwise(extents):
        if begin != end:
            raise ValueError(f"a tensor, or the file, goes on at byte {begin}, the one before it ends at {end}")
    return tensors


def save_checkpoint(path: Path, model: nn.Module, record: Record) -> None:
    """Write model and record to `path` in the native format; the file appears complete or not at all.

    Raises `InputError` if `path` is a file of another kind.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = save(tensors, metadata={RECORD_KEY: record_text(record, hash_tensors(tensors))})
    Output(path, CHECKPOINT).write(content)
