"""The outcome of a run as `stress.json`, with its images beside it: written and read."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from harness.base.codes import code_in
from harness.base.errors import writable
from harness.base.records import as_plain, read_record
from harness.checks.check import plain_verdict
from harness.checks.roles import ROLES
from harness.perturb import PROTOCOL
from harness.run.feature_records import plain_records, read_records
from harness.run.findings import Findings
from harness.run.headline import headline
from harness.run.history import History, chance_of_a_pass
from harness.run.outcome import Outcome, ReportImages, RunFacts, RunInputs
from harness.run.results import Results
from harness.run.shown import address_of, named, with_images
from harness.run.status import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

GROUPS = (RunFacts, RunInputs, Results, Findings, ReportImages)
"""Records whose fields are keys of `stress.json`, except those in `ARRANGED`."""
ARRANGED = frozenset({"id", "models", "verdicts"})
"""Fields of these records with another key: `run`, a key for each role, and `checks`."""


def derived_facts(outcome: Outcome) -> dict[str, Any]:
    """Return the facts in `stress.json` that a reader could derive from its other fields."""
    return {
        "verdict": outcome.verdict,
        "headline": headline(outcome),
        "provisional": outcome.results.provisional,
        "chance_of_a_pass": round(chance_of_a_pass(outcome.attempt), 4),
        "error_codes": [code_in(error) for error in outcome.results.errors],
    }


def stress_json(outcome: Outcome) -> dict[str, Any]:
    """Return the content of `stress.json`, with images as addresses."""
    models: dict[str, Any] = as_plain(outcome.inputs)["models"]
    plain = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "finished": True,
        "run": outcome.run.id,
        "profile": outcome.run.profile,
        "scope": outcome.run.scope,
        **derived_facts(outcome),
        **{role: models.get(role) for role in ROLES},
        "checks": [verdict.as_json() for verdict in outcome.results.verdicts],
    }
    for group in (outcome.findings, outcome.results, outcome.inputs, outcome.run, outcome.images):
        plain |= {key: value for key, value in as_plain(group).items() if key not in ARRANGED}
    plain |= plain_records(outcome.parts)
    plain["history"] = as_plain(outcome.history)
    plain["attempt"] = outcome.attempt
    return plain


def record_and_images(outcome: Outcome) -> tuple[str, dict[str, bytes]]:
    """Return the text of `stress.json`, and the images that it names by their paths beside it."""
    images: dict[str, bytes] = {}
    plain = with_images(as_written(stress_json(outcome)), lambda address: named(address, images))
    return json.dumps(plain, indent=1, default=str) + "\n", images


def as_written(value: Any) -> Any:
    """Return plain values with all texts as they can be written, see `writable`."""
    if isinstance(value, dict):
        return {writable(name): as_written(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_written(item) for item in value]
    if type(value) is str:
        return writable(value)
    return value


def read_outcome(plain: Mapping[str, Any], read: Callable[[str], bytes], *, where: str) -> Outcome:
    """Return the outcome of a run from the content of its `stress.json`.

    `read` returns the image of a name. Raises `InputError` for a value of another type, and
    `KeyError` for a key that is missing.
    """
    # An earlier version wrote no environment, and nothing that is judged depends on it.
    plain = {"environment": None} | dict(plain)
    plain = with_images(plain, lambda name: address_of(read(name)))
    arranged = {
        "id": plain["run"],
        "models": {role: plain[role] for role in ROLES if plain[role] or role == "candidate"},
        "verdicts": plain_verdicts(plain),
    }
    plain = plain | arranged
    return Outcome(
        run=_group(RunFacts, plain, where),
        inputs=_group(RunInputs, plain, where),
        results=_group(Results, plain, where),
        findings=_group(Findings, plain, where),
        parts=read_records(plain, where=where),
        images=_group(ReportImages, plain, where),
        history=read_record(History | None, plain["history"], where=where, name="history"),  # type: ignore[arg-type]
        attempt=read_record(int, plain["attempt"], where=where, name="attempt"),
    )


def _group(kind: type[T], plain: Mapping[str, Any], where: str) -> T:
    """Return a record whose fields are keys of `stress.json`."""
    values = {field.name: plain[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    return read_record(kind, values, where=where)


def plain_verdicts(plain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts in the content of `stress.json`, without what a reader would derive."""
    return [plain_verdict(entry) for entry in plain["checks"]]
