"""The end of the tests of a gate run: it checks itself, compares its models, and becomes an outcome."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import Interruption, foreign_code, lacking
from harness.base.features import features, resolve
from harness.base.records import as_json, read_json
from harness.plugin.progress import bar
from harness.plugin.replays import Replays
from harness.run.outcome import Part, SelfCheck
from harness.run.side_by_side import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.base.features import Feature
    from harness.checks import Check
    from harness.plugin.run import GateRun

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
        run.reported.part += tried(run, "self-checks", lambda: _check_itself(run), _unchecked)
    if compares_models(run) and not run.hung:
        run.reported.part += tried(run, "the overview", lambda: _compare_models(run), _not_compared)
    for feature in features() if _looks_back_as(run, 1) and run.request.stopped is None else ():
        if feature.differences and not run.hung:
            compare = partial(
                _compare_with_others, run, feature, {check.family for check in selected}
            )
            run.reported.part += tried(
                run, "differences from other models", compare, lambda _: Part()
            )


def tried(
    run: GateRun, what: str, step: Callable[[], T], otherwise: Callable[[BaseException], T]
) -> T:
    """Return what a step finds, or what `otherwise` makes of the error that ends it."""
    try:
        with run.limited(what), foreign_code():
            found = step()
            if isinstance(found, Part):  # An unfit part is left out, and costs no verdict.
                read_json(Part, as_json(found), where=what)
            return found
    except (Exception, Interruption) as error:
        return otherwise(error)


def _check_itself(run: GateRun) -> Part:
    from harness.run.selfcheck import memory_of, self_checks

    steps, session = itertools.count(), run.prepare()
    with bar("self-checks", run.config) as show, Replays(run) as replays:
        return Part(
            self_checks(
                session,
                replays.judge_for_self_check,
                memory=memory_of(session, run.tests),
                on_check=lambda name, total: show(next(steps), total, name),
            )
        )


def _unchecked(error: BaseException) -> Part:
    cause = lacking(error)
    return Part((SelfCheck("self-checks", "fail", f"they could not run: {cause}", cause=cause),))


def _compare_models(run: GateRun) -> Part:
    with bar("comparing the models", run.config) as show:
        return Part(
            overview=overview_of(
                run.prepare(), on_measured=lambda done, total: show(done, total, "")
            )
        )


def _not_compared(error: BaseException) -> Part:
    from harness.inference.predictors.protocol import UnknownPixelsError

    if not isinstance(error, UnknownPixelsError):
        return Part(overview_missing=f"The models could not be compared: {error}")
    return Part(
        overview_missing="The models were not compared: the recorded predictions have none for the images of this "
        "comparison. `stress-harness export-inputs --overview` exports these, too."
    )


def _compare_with_others(run: GateRun, feature: Feature, families: set[str]) -> Part:
    if families.isdisjoint(family.name for family in feature.families):
        return Part()
    found: Part = resolve(feature.differences)(run.prepare(), run.request)
    return found
