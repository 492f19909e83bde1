"""The end of the tests of a gate run: it checks itself, compares its models, and becomes an outcome."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import Interruption, foreign_code, lacking
from harness.base.features import features, resolve
from harness.base.records import as_json, read_json
from harness.plugin.progress import bar
from harness.plugin.replays import Replays
from harness.run.feature_records import FeatureRecord
from harness.run.findings import Findings, SelfCheck
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.base.features import Feature
    from harness.checks import Check
    from harness.plugin.run import GateRun
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

T = TypeVar("T")


def _looks_back_as(run: GateRun, number: int) -> bool:
    """Return whether this process is the only one, or the worker of this number or the last below it."""
    if run.is_worker:
        given = run.config.workerinput  # type: ignore[attr-defined]
        if given["workerid"] != f"gw{min(number, given['workercount'] - 1)}":
            return False
    return run.request.record is None and bool(run.tests)


def checks_itself(run: GateRun) -> bool:
    """Return whether this process runs the self-checks: the only one, or the first worker."""
    return _looks_back_as(run, 0) and not run.hung


def compares_models(run: GateRun) -> bool:
    """Return whether this process measures the overview: the only one, or the second worker, if any."""
    return run.has_overview and _looks_back_as(run, 1)


def look_back(run: GateRun, selected: Sequence[Check]) -> None:
    """Check the run itself, compare its models, and say what differs from the original, if this process is to.

    Only features with a `selected` check say that. A model may fail here; what the checks say stands.
    """
    if run.reported.interrupted:
        return
    if checks_itself(run):
        run.reported.findings += tried(run, "self-checks", lambda: _check_itself(run), _unchecked)
    if compares_models(run) and not run.hung:
        run.reported.findings += tried(
            run, "the overview", lambda: _compare_models(run), _not_compared
        )
    if not _looks_back_as(run, 1) or run.request.stopped is not None:
        return
    families = {check.family for check in selected}
    for feature in features():
        concerned = not families.isdisjoint(family.name for family in feature.families)
        if feature.differences and concerned and not run.hung:
            _add_record(run, feature)


def tried(
    run: GateRun, what: str, step: Callable[[], T], otherwise: Callable[[BaseException], T]
) -> T:
    """Return what a step finds, or what `otherwise` makes of the error that ends it."""
    try:
        with run.limited(what), foreign_code():
            found = step()
            # A finding that a record cannot hold is left out, and costs no verdict.
            if isinstance(found, Findings | FeatureRecord):
                read_json(type(found), as_json(found), where=what)
            return found
    except (Exception, Interruption) as error:
        return otherwise(error)


def _check_itself(run: GateRun) -> Findings:
    from harness.run.selfcheck import memory_of, self_checks

    steps, session = itertools.count(), run.prepare()
    with bar("self-checks", run.config) as show, Replays(run) as replays:
        return Findings(
            self_checks(
                session,
                replays.judge_for_self_check,
                memory=memory_of(session, run.tests),
                on_check=lambda name, total: show(next(steps), total, name),
            )
        )


def _unchecked(error: BaseException) -> Findings:
    cause = lacking(error)
    return Findings(
        (SelfCheck("self-checks", "fail", f"they could not run: {cause}", cause=cause),)
    )


def _compare_models(run: GateRun) -> Findings:
    with bar("comparing the models", run.config) as show:
        return Findings(
            overview=overview_of(
                run.prepare(), on_measured=lambda done, total: show(done, total, "")
            )
        )


def _not_compared(error: BaseException) -> Findings:
    from harness.inference.predictors.protocol import UnknownPixelsError

    if not isinstance(error, UnknownPixelsError):
        return Findings(overview_missing=f"The models could not be compared: {error}")
    return Findings(
        overview_missing="The models were not compared: the recorded predictions have none for the images of this "
        "comparison. `stress-harness export-inputs --overview` exports these, too."
    )


def _add_record(run: GateRun, feature: Feature) -> None:
    """Add the record of a feature to those of the run, unless the feature has nothing to say of it."""
    record_of: Callable[[StressSession, RunRequest], FeatureRecord | None]
    record_of = resolve(feature.differences)
    record = tried(
        run,
        "differences from other models",
        lambda: record_of(run.prepare(), run.request),
        lambda _: None,
    )
    if record is not None:
        run.reported.parts[feature.record_key] = record
