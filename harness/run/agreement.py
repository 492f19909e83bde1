"""Agreement of a record with itself.

Verdict, headline and statuses follow from its other fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.run.status import INCONCLUSIVE
from harness.run.stress_json import as_written, derived_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.checks import Verdict
    from harness.run.outcome import Outcome

_UNFINISHED = {"verdict": "error", "headline": INCONCLUSIVE, "provisional": False, "checks": []}
"""Facts of every run without an outcome."""


def expect_agreement(record: Mapping[str, Any], outcome: Outcome | None, *, where: str) -> None:
    """Raise `InputError` for a record with a fact that its other fields contradict.

    `record` is the plain content of `stress.json`, and `outcome` that of the run, None for an
    unfinished one. The message begins with `where`, the name of the file.
    """
    contradiction = next(_contradictions(record, outcome), "")
    if contradiction:
        raise InputError(
            f"{where}: contradicts itself: {contradiction}. The file was changed after the run, "
            "or is damaged; run the gate again"
        )


def _contradictions(record: Mapping[str, Any], outcome: Outcome | None) -> Iterator[str]:
    if outcome is None:
        present = {name: value for name, value in _UNFINISHED.items() if name in record}
        yield from _differences("the run did not finish; it", record, present)
        return

    for entry, verdict in zip(record["checks"], outcome.results.verdicts, strict=True):
        yield from _contradictions_of_check(entry, verdict, stopped=bool(outcome.run.stopped))
    yield from _differences("the run", record, derived_facts(outcome))


def _contradictions_of_check(
    entry: Mapping[str, Any], verdict: Verdict, *, stopped: bool
) -> Iterator[str]:
    check = verdict.check
    status, threshold = check.ruling(verdict)
    # Only a check that failed for certain ends a run, and no other check of that run is judged.
    images_of_stopped_check = check.conditions.stopped if verdict.judged and stopped else 0
    follows = {"status": status, "threshold": threshold, "stopped": images_of_stopped_check}
    about = f"check {check.id} (value {verdict.value}, n {verdict.n})"
    yield from _differences(about, entry, follows | verdict.derived)


def _differences(
    about: str, stated: Mapping[str, Any], follows: Mapping[str, Any]
) -> Iterator[str]:
    for name, value in follows.items():
        expected = as_written(value)
        found = stated.get(name)
        if found != expected or isinstance(found, bool) != isinstance(
            expected, bool
        ):  # 1 equals True.
            yield f"{about} has {name} {found!r}, and its other fields give {expected!r}"
