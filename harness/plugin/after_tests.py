"""Work of a gate run after its tests: self-checks, the overview, differences from other models."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import Interruption, foreign_code, lacking
from harness.base.features import implementations
from harness.base.records import as_json, read_json
from harness.plugin.progress import bar
from harness.plugin.replays import Replays
from harness.run.findings import Findings, SelfCheck
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.base.features import Implementation
    from harness.checks import Check
    from harness.plugin.run import GateRun
    from harness.run.feature_records import FeatureRecord

T = TypeVar("T")


def checks_itself(run: GateRun) -> bool:
    """Return whether this process runs the self-checks: the only one, or the first worker."""
    return _is_its_turn(run, worker=0) and not run.hung


def compares_models(run: GateRun) -> bool:
    """Return whether this process measures the overview: the only one, or the second worker."""
    return _is_its_turn(run, worker=1) and run.has_overview


def _is_its_turn(run: GateRun, *, worker: int) -> bool:
    """Return whether work after the tests is for this process.

    That is the only process, or the worker of this number; with fewer workers, the last one.
    """
    if run.request.record is not None or not run.collected.tests:
        return False
    if not run.is_worker:
        return True
    worker_input = run.config.workerinput  # type: ignore[attr-defined]
    number = min(worker, worker_input["workercount"] - 1)
    return bool(worker_input["workerid"] == f"gw{number}")


def work_after_tests(run: GateRun, selected: Sequence[Check]) -> None:
    """Check the run itself, compare its models, and say what differs from the original.

    Each is done by one process. Only features with a `selected` check say what differs. A model may
    fail here; the verdicts of the checks stand.
    """
    if run.tally.interrupted:
        return
    if checks_itself(run):
        _add_findings(run, "self-checks", lambda: _check_itself(run), on_error=_unchecked)
    if compares_models(run) and not run.hung:
        _add_findings(run, "the overview", lambda: _compare_models(run), on_error=_not_compared)
    if _is_its_turn(run, worker=1) and run.request.stopped is None:
        _add_records(run, frozenset(check.family for check in selected))


def _add_records(run: GateRun, families: frozenset[str]) -> None:
    """Add what features with a check in these families record of the run."""
    for implementation in implementations("stress_run_records"):
        if run.hung:
            return
        step = partial(_records_of, implementation, run, families)
        name = "differences from other models"
        run.tally.parts |= run_step(run, name, step, on_error=lambda _: {})


def _records_of(
    implementation: Implementation, run: GateRun, families: frozenset[str]
) -> dict[str, FeatureRecord]:
    records: dict[str, FeatureRecord] | None = implementation(
        session=run.prepare(), request=run.request, families=families
    )
    if records is None:
        return {}
    for key, record in records.items():
        _expect_readable(record, where=key)
    return records


def _add_findings(
    run: GateRun,
    name: str,
    step: Callable[[], Findings],
    *,
    on_error: Callable[[BaseException], Findings],
) -> None:
    """Add the findings of a step to those that the run reports."""

    def checked_step() -> Findings:
        findings = step()
        _expect_readable(findings, where=name)
        return findings

    run.tally.findings += run_step(run, name, checked_step, on_error=on_error)


def _expect_readable(record: Findings | FeatureRecord, *, where: str) -> None:
    """Raise `InputError` for a value that the record of the run cannot hold.

    The step is then left out, which costs no verdict.
    """
    read_json(type(record), as_json(record), where=where)


def run_step(
    run: GateRun, name: str, step: Callable[[], T], *, on_error: Callable[[BaseException], T]
) -> T:
    """Return what a step returns, or what `on_error` makes of the error that ends it.

    Its time is limited as that of a check.
    """
    try:
        with run.limited(name), foreign_code():
            return step()
    except (Exception, Interruption) as error:
        return on_error(error)


def _check_itself(run: GateRun) -> Findings:
    from harness.run.self_checks import memory_of, self_checks

    session = run.prepare()
    steps = itertools.count()
    with bar("self-checks", run.config) as show, Replays(run) as replays:
        checks = self_checks(
            session,
            replays.judge_for_self_check,
            memory=memory_of(session, run.collected.tests),
            on_check=lambda name, total: show(next(steps), total, name),
        )
    return Findings(checks)


def _unchecked(error: BaseException) -> Findings:
    cause = lacking(error)
    return Findings(
        (SelfCheck("self-checks", "fail", f"they could not run: {cause}", cause=cause),)
    )


def _compare_models(run: GateRun) -> Findings:
    with bar("comparing the models", run.config) as show:
        overview = overview_of(run.prepare(), on_measured=lambda done, total: show(done, total, ""))
    return Findings(overview=overview)


def _not_compared(error: BaseException) -> Findings:
    from harness.inference.predictors.protocol import UnknownPixelsError

    if not isinstance(error, UnknownPixelsError):
        return Findings(overview_missing=f"The models could not be compared: {error}")
    return Findings(
        overview_missing="The models were not compared: the recorded predictions have none for the "
        "images of this comparison. `stress-harness export-inputs --overview` exports these, too."
    )
