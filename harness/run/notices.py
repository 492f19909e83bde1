"""Notices of a run, for every reader of the verdict, and remarks with further facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import some_of
from harness.checks.known import KNOWN
from harness.checks.roles import INCUMBENT
from harness.measures import METRICS, Unit
from harness.run.results import binding_checks_without_incumbent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date
    from typing import Any

    from harness.checks import Verdict
    from harness.checks.known import KnownIssue
    from harness.run.session import StressSession


def notices_of(
    session: StressSession,
    verdicts: Sequence[Verdict],
    *,
    known: Sequence[KnownIssue],
    day: date,
) -> tuple[str, ...]:
    """Return lines for every reader of the verdict; `day` is the day of the run, UTC."""
    notices = [
        stop_notice(session),
        _incumbent_notice(session, verdicts),
        *known_issue_notices(known, verdicts, day),
    ]
    return tuple(filter(None, notices))


def remarks_of(session: StressSession, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Return facts about models, images and rows that no reader needs for the verdict."""
    remarks = []
    for role, model in session.roles.items():
        if model.note:
            remarks.append(f"{role} {model.path}: {model.note}")
    remarks += [
        _dropped_checks(session),
        *session.images.notes,
        _mixed_processors(session, verdicts),
        _new_checks(session, verdicts),
    ]
    return tuple(filter(None, remarks))


def stop_notice(session: StressSession) -> str:
    """Return where the run stopped; empty for a whole run."""
    if session.scope.stopped is None:
        return ""
    check_id, image_count = session.scope.stopped
    other_checks = len(session.checks.checks) - 1
    return (
        f"stopped at {check_id}, which fails for certain, after {len(session.images):,} of "
        f"{image_count:,} images; other checks are not measured ({other_checks})"
    )


def known_issue_notices(
    known: Sequence[KnownIssue], verdicts: Sequence[Verdict], day: date
) -> list[str]:
    """Return a notice on known issues among the failing checks, and one on expired issues."""
    failing = {verdict.check.id for verdict in verdicts if verdict.status == "fail"}
    current = [issue for issue in known if day <= issue.last_day]
    expired = [issue for issue in known if day > issue.last_day]
    among_failing = [issue.about for issue in current if issue.check in failing]

    notices = []
    if among_failing:
        names = some_of(among_failing)
        notices.append(f"known issues among the failing checks: {names}; the verdict counts them")
    if expired:
        names = some_of([f"{issue.about} ({issue.until}, {issue.owner})" for issue in expired])
        notices.append(f"expired known issues: {names}; fix or renew them in {KNOWN}")
    return notices


def _incumbent_notice(session: StressSession, verdicts: Sequence[Verdict]) -> str:
    """Return that the run compared with no incumbent, or with another than the declared one."""
    waiving = _waiver_notice(session, verdicts)
    if waiving:
        return waiving

    declared = session.declared
    incumbent = session.roles.get(INCUMBENT)
    if incumbent is None or declared is None or declared.weights is None:
        return ""
    if incumbent.sha256 == declared.sha256:
        return ""
    return (
        f"compared with {incumbent.path} ({incumbent.sha256[:12]}…), which is not the incumbent "
        f"that {declared.path} declares ({declared.sha256[:12]}…)"
    )


def _waiver_notice(session: StressSession, verdicts: Sequence[Verdict]) -> str:
    """Return that the comparison with an incumbent was waived, if a check lacks it."""
    lacking = [verdict.check.id for verdict in verdicts if verdict.without == INCUMBENT]
    if not session.waived or not lacking or session.scope.recording:
        return ""

    declared = session.declared
    declaration = ""
    if declared is not None and declared.weights:
        declaration = f", though {declared.path} declares one"
    binding = binding_checks_without_incumbent(verdicts)
    names = binding or lacking
    count = "1 check" if len(names) == 1 else f"{len(names)} checks"
    if binding:
        count += " with a threshold"
    return (
        f"not compared with an incumbent ({session.waived}){declaration}: not applicable: "
        f"{count}: {some_of(names)}"
    )


def _dropped_checks(session: StressSession) -> str:
    """Return a remark on checks that the incumbent was accepted by and this run does not have."""
    acceptance = _acceptance_of_incumbent(session)
    profile = "default" if session.checks.data.sample is None else "quick"
    if acceptance.get("profile") != profile:
        return ""
    present = {check.id for check in session.checks.checks}
    gone = [str(name) for name in acceptance.get("checks", ()) if name not in present]
    if not gone:
        return ""
    return (
        f"{len(gone)} checks that the last accepted model (incumbent) was accepted by are not in "
        f"{session.checks.path}: {some_of(gone)}"
    )


def _acceptance_of_incumbent(session: StressSession) -> Mapping[str, Any]:
    """Return the record of the incumbent's acceptance; empty without one.

    It is in the declaration, if this declares the incumbent of the run, or in the model's file.
    """
    incumbent = session.roles.get(INCUMBENT)
    if incumbent is None:
        return {}
    declared = session.declared
    if declared and declared.sha256 == incumbent.sha256 and declared.acceptance:
        return declared.acceptance
    record = incumbent.record
    return (record.acceptance if record else None) or {}


def _mixed_processors(session: StressSession, verdicts: Sequence[Verdict]) -> str:
    """Return a remark on a cluster of mixed processors: the margins that they might change."""
    if session.cluster is None or len(session.cluster.kinds) <= 1:
        return ""
    from harness.inference.platforms import note_on_platforms

    margins = []
    for verdict in verdicts:
        metric = METRICS.get(verdict.metric)
        is_share = metric is not None and metric.unit is Unit.SHARE
        if not is_share or not verdict.judged:
            continue
        if verdict.value is not None and verdict.threshold is not None:
            margins.append((verdict.check.id, abs(verdict.value - verdict.threshold)))
    return note_on_platforms(session.cluster.kinds, margins)


def _new_checks(session: StressSession, verdicts: Sequence[Verdict]) -> str:
    """Return a remark on tests whose checks the file lacks; calibration adds a row for each."""
    present = {check.id for check in session.checks.checks}
    new = sorted({verdict.check.id for verdict in verdicts} - present)
    if not new:
        return ""
    name = session.checks.path.name
    return f"checks that {name} does not have yet: {len(new)}, {some_of(new)}"
