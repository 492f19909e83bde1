"""The JSON schema of `stress.json`, which follows from the records that the file consists of."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from harness.base.records import schema_of, schemas_of
from harness.checks import Verdict
from harness.checks.roles import ROLES
from harness.data.domain import AugmentationRange
from harness.perturb import PROTOCOL
from harness.run.feature_records import record_types
from harness.run.history import History, Overall
from harness.run.status import SCHEMA
from harness.run.stress_json import ARRANGED, GROUPS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MODEL = {
    "type": "object",
    "description": "A model of the run: where it is, the SHA-256 of its file, and its "
    "architecture.",
    "properties": {"path": _TEXT, "sha256": _TEXT, "architecture": _TEXT},
    "required": ["path", "sha256", "architecture"],
}
_MODEL_OR_NULL = {"anyOf": [{"$ref": "#/$defs/Model"}, {"type": "null"}]}
_DATA = {
    "type": "object",
    "description": "The images of the run; `n` counts those that were measured.",
    "properties": {
        "name": _TEXT,
        "split": _TEXT,
        "sha256": _TEXT,
        "n": _COUNT,
        "classes": _TEXTS,
        "pipeline": _TEXT,
        "augmentation": schema_of(AugmentationRange),
        "border": _TEXT,
    },
    "required": ["name", "split", "sha256", "n"],
}
_DERIVED = {
    "schema": {"const": SCHEMA, "description": "The version of this file's schema."},
    "protocol": {"const": PROTOCOL, "description": "The version of the rules for pixels."},
    "finished": {"type": "boolean", "description": "False for a refusal, true for an outcome."},
    "run": {"type": "string", "description": "The id of the run."},
    "verdict": {"enum": [*get_args(Overall)]},
    "headline": {"type": "string", "description": "The verdict in one sentence."},
    "provisional": {
        "type": "boolean",
        "description": "Whether a threshold rests on one or two reference models.",
    },
    "attempt": _COUNT,
    "chance_of_a_pass": _SHARE,
    "error_codes": {**_TEXTS, "description": "The code of each error, in the order of `errors`."},
    "data": _DATA,
}
"""Keys of the file that are no field of a record, or more exact than one."""
_DERIVED_OF_CHECK = {
    "id": _TEXT,
    "role": _TEXT,
    "family": _TEXT,
    "direction": {"enum": ["at_least", "at_most"]},
    "provenance": {"type": ["string", "null"]},
    "reference_mean": _NUMBER_OR_NULL,
    "reference_std": _NUMBER_OR_NULL,
    "minimum_detectable_drop": _NUMBER_OR_NULL,
    "explanation": _TEXT,
}
"""Keys of a check's entry that are no field of its verdict."""


def record_schema() -> dict[str, Any]:
    """Return the JSON schema of `stress.json` (draft 2020-12), of outcomes and of refusals.

    Every key of today is required. Further keys are valid, because a later version may add some.
    """
    groups: dict[str, type] = {group.__name__: group for group in GROUPS}
    whole_records: dict[str, type] = {"history": History, **record_types()}
    schemas, definitions = schemas_of({**groups, **whole_records})
    keys: dict[str, Any] = {}
    for name in groups:
        keys |= definitions.pop(name)["properties"]
    for name in ARRANGED:
        del keys[name]
    for key in whole_records:
        keys[key] = {"anyOf": [schemas[key], {"type": "null"}]}

    definitions["Model"] = _MODEL
    # The file has the conditions of a check among the fields of its row.
    row = definitions["Check"]["properties"]
    del row["conditions"]
    row |= definitions.pop("Conditions")["properties"]
    definitions["CheckResult"] = _check_schema(definitions.pop("Verdict"))
    keys |= dict.fromkeys(ROLES, _MODEL_OR_NULL)
    keys |= {"checks": {"type": "array", "items": {"$ref": "#/$defs/CheckResult"}}}
    keys |= _DERIVED
    return {
        "$schema": DIALECT,
        "title": "stress.json",
        "description": (
            "The record of a run of the gate, stress-harness. Numbers may be NaN or Infinity, "
            "which Python's json reads. `stress-harness docs exit-status` explains each field."
        ),
        "type": "object",
        "properties": keys,
        "required": [*keys],
        "$defs": definitions,
    }


def _check_schema(verdict: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a check's entry by that of its verdict."""
    return {
        "type": "object",
        "description": "A check of the checks file, its measurement and its verdict.",
        "properties": {**_DERIVED_OF_CHECK, **verdict["properties"]},
        "required": [*_DERIVED_OF_CHECK, *(field.name for field in fields(Verdict))],
    }
