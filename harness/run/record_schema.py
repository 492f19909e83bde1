"""The JSON schema of `stress.json`, which follows from the records that the file is written from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args

from harness.base.records import schema_of
from harness.checks import Verdict
from harness.checks.roles import ROLES
from harness.data.domain import AugmentationRange
from harness.perturb import PROTOCOL
from harness.run.history import Overall
from harness.run.outcome import Outcome
from harness.run.status import SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MODEL = {
    "type": "object",
    "description": "A model of the run: where it is, the SHA-256 of its file, and its architecture.",
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
    "verdict": {"enum": [*get_args(Overall)]},
    "headline": {"type": "string", "description": "The verdict in one sentence."},
    "provisional": {
        "type": "boolean",
        "description": "Whether a threshold rests on one or two reference models.",
    },
    "chance_of_a_pass": _SHARE,
    "error_codes": {**_TEXTS, "description": "The code of each error, in the order of `errors`."},
    "data": _DATA,
}
"""Keys of the file that are no field of an outcome, or more exact than one."""
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
    outcome = schema_of(Outcome)
    definitions = outcome["$defs"]

    verdict = definitions.pop("Verdict")
    check = {**_DERIVED_OF_CHECK, **verdict["properties"]}
    definitions["CheckResult"] = {
        "type": "object",
        "description": "A check of the checks file, its measurement and its verdict.",
        "properties": check,
        "required": [*_DERIVED_OF_CHECK, *(each.name for each in fields(Verdict))],
    }
    definitions["Model"] = _MODEL

    own = outcome["properties"]
    keys = {name: value for name, value in own.items() if name not in {"models", "verdicts"}}
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
