"""What a native checkpoint says about itself, as JSON in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from harness.store.records import as_plain, read_json, record

RECORD_KEY = "harness"
"""The key of the record in a safetensors file's metadata."""
_SCHEMA = 1


@record
class Record:
    """What a native checkpoint says about itself."""

    architecture: str
    arguments: Mapping[str, Any]
    classes: tuple[str, ...]
    training: dict[str, Any] | None = None
    """The full training config, None when unknown (a converted file)."""
    data_sha256: str | None = None
    """SHA-256 of the training data, see `LabelledImages.sha256`."""
    validation: dict[str, Any] | None = None
    """Metrics on the validation images."""
    history: tuple[dict[str, Any], ...] = ()
    """One entry per epoch."""
    versions: dict[str, Any] = field(default_factory=dict)
    acceptance: dict[str, Any] | None = None
    """When and with what verdict it became the incumbent, and whether by force."""


class RecordDamagedError(Exception):
    """A record that does not have the hash it names: it was changed after it was written."""


def record_text(about: Record, tensors_sha256: str) -> str:
    """Return the JSON of a record, with the hash over the tensors that it belongs to, and one over itself."""
    entries = {"schema": _SCHEMA, **as_plain(about), "tensors_sha256": tensors_sha256}
    return json.dumps({**entries, "record_sha256": _hash(entries)})


def parse_record(text: str) -> tuple[Record, str]:
    """Return the record and the hash over the tensors that its JSON holds.

    Raises `RecordDamagedError` when the hash over the record is not the one it names, if it names one, since that is
    what the normalisation stands in; and `ValueError`, `TypeError`, `KeyError`, `AttributeError`, `RecursionError` or
    `InputError` for anything malformed.
    """
    entries = json.loads(text, object_pairs_hook=without_duplicates)
    record_sha256 = entries.pop("record_sha256", None)
    if record_sha256 is not None and record_sha256 != (found := _hash(entries)):
        raise RecordDamagedError(f"SHA-256 of its record is {found}, the record says {record_sha256}")
    schema, tensors_sha256 = entries.pop("schema"), entries.pop("tensors_sha256")
    if schema != _SCHEMA:
        raise ValueError(f"schema {schema}, this version reads {_SCHEMA}")
    if not isinstance(tensors_sha256, str):
        raise TypeError("wrong type of tensors_sha256")
    return read_json(Record, json.dumps(entries), where="record"), tensors_sha256


def _hash(entries: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs of a JSON object as a dict; raises `ValueError` when two have one key."""
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"duplicate key {key!r}")
        mapping[key] = value
    return mapping
