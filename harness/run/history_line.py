"""The line that a run leaves in the history, and the line of its incumbent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.base.errors import writable
from harness.checks.roles import INCUMBENT
from harness.perturb import IDENTITY
from harness.run.history import FARTHEST, SCHEMA, HistoryLine
from harness.run.margins import margin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.checks import Verdict
    from harness.run.outcome import Outcome


def line_of(outcome: Outcome, *, at: datetime | None = None) -> HistoryLine:
    """Return the line of a run in the history; `at` is its end, by default now."""
    inputs, results = outcome.inputs, outcome.results
    # A run that stopped measured one check, which does not compare with those of whole runs.
    measured = () if outcome.run.stopped else results.verdicts
    robust = robust_verdict(outcome)
    return HistoryLine(
        candidate=inputs.models["candidate"]["sha256"],
        at=(at or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0),
        schema=SCHEMA,
        path=writable(inputs.models["candidate"]["path"]),
        verdict=outcome.verdict,
        profile=outcome.run.profile,
        data=str(inputs.data["sha256"]),
        checks=inputs.checks_sha256,
        judged=results.compared,
        failing=tuple(verdict.check.id for verdict in results.failed) + results.failed_tests,
        clean=_clean_accuracy(measured),
        worst_pose=_worst_judged_pose(measured),
        robust_accuracy=robust.value if robust else None,
        margins=_smallest_margins(measured),
        data_name=str(inputs.data["name"]),
        stopped=bool(outcome.run.stopped),
    )


def line_of_incumbent(outcome: Outcome) -> HistoryLine | None:
    """Return the latest run of the incumbent with the same checks on the same data.

    None without such a run, and if the candidate is the incumbent.
    """
    incumbent = outcome.inputs.models.get(INCUMBENT)
    candidate = outcome.inputs.models.get("candidate")
    if not outcome.history or not incumbent or not candidate:
        return None
    if incumbent["sha256"] == candidate["sha256"]:
        return None

    wanted = (
        incumbent["sha256"],
        outcome.inputs.checks_sha256,
        str(outcome.inputs.data["sha256"]),
        outcome.run.profile,
    )
    latest = None
    for line in outcome.history.lines:
        if not line.stopped and (line.candidate, line.checks, line.data, line.profile) == wanted:
            latest = line
    return latest


def robust_verdict(outcome: Outcome) -> Verdict | None:
    """Return the verdict on the candidate's robust accuracy over the augmentation range.

    None if it has no value.
    """
    wanted = "robust_accuracy", "augmentation-range", "candidate"
    for verdict in outcome.results.verdicts:
        check = verdict.check
        measured = verdict.metric, check.keys.get("grid"), check.role
        if measured == wanted and verdict.value is not None:
            return verdict
    return None


def _accuracies(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Return the verdicts on accuracies of the candidate that were measured."""
    return [
        verdict
        for verdict in verdicts
        if verdict.check.role == "candidate"
        and verdict.metric == "accuracy"
        and verdict.value is not None
    ]


def _clean_accuracy(verdicts: Iterable[Verdict]) -> float | None:
    for verdict in _accuracies(verdicts):
        if verdict.check.family == "clean" and verdict.check.pose == IDENTITY:
            return verdict.value
    return None


def _worst_judged_pose(verdicts: Iterable[Verdict]) -> float | None:
    """Return the lowest accuracy of a check at a pose that has a threshold; None without one."""
    at_poses = [verdict for verdict in _accuracies(verdicts) if verdict.check.pose != IDENTITY]
    return min((verdict.value or 0.0 for verdict in at_poses if verdict.judged), default=None)


def _smallest_margins(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Return the smallest margin of each family with a verdict."""
    margins: dict[str, float] = {}
    for verdict in verdicts:
        distance = margin(verdict)
        if distance is not None:
            family = verdict.check.family
            margins[family] = min(round(distance, 2), margins.get(family, FARTHEST))
    return margins
