"""The end of the tests of a gate run: it checks itself, compares its models, and becomes an outcome."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import pytest

from harness.base.errors import InputError, Interruption, NotApplicableError, foreign_code, lacking, reason
from harness.base.features import families_with_rows, features, resolve
from harness.base.files import hash_of_file
from harness.base.records import as_json, read_json
from harness.checks import read_checks
from harness.plugin.claim import CLAIM
from harness.plugin.progress import bar
from harness.plugin.sinks import with_history
from harness.run.evidence import Evidence
from harness.run.hypothesis_poses import expect_answers_to_draws
from harness.run.outcome import ROWS_PICTURED, Outcome, Part, SelfCheck, worst_first
from harness.run.reported import outcome_of
from harness.run.side_by_side import overview_of
from harness.run.status import REPORT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.base.features import Feature
    from harness.checks import Check, Verdict
    from harness.plugin.run import GateRun
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
        run.reported.part += _tried(run, "self-checks", lambda: _check_itself(run), _unchecked)
    if compares_models(run) and not run.hung:
        run.reported.part += _tried(run, "the overview", lambda: _compare_models(run), _not_compared)
    for feature in features() if _looks_back_as(run, 1) and run.request.stopped is None else ():
        if feature.differences and not run.hung:
            compare = partial(_compare_with_others, run, feature, {check.family for check in selected})
            run.reported.part += _tried(run, "differences from other models", compare, lambda _: Part())


def _tried(run: GateRun, what: str, step: Callable[[], T], otherwise: Callable[[BaseException], T]) -> T:
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
    try:
        with bar("self-checks", run.config) as show:
            return Part(
                self_checks(
                    session,
                    partial(judge, run),
                    memory=memory_of(session, run.tests),
                    on_check=lambda name, total: show(next(steps), total, name),
                )
            )
    finally:
        end_all(next(iter(run.tests.values())).session)


def _unchecked(error: BaseException) -> Part:
    cause = lacking(error)
    return Part((SelfCheck("self-checks", "fail", f"they could not run: {cause}", cause=cause),))


def _compare_models(run: GateRun) -> Part:
    with bar("comparing the models", run.config) as show:
        return Part(overview=overview_of(run.prepare(), on_measured=lambda done, total: show(done, total, "")))


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


def finished(run: GateRun) -> tuple[Outcome, dict[str, bytes]]:
    """Return the outcome of a run as its record has it, and all reports by their names, with the record's pictures."""
    from harness.report.redraw import reports_of

    record, images = with_history(_finish(run), run.request).as_files()
    outcome, reports = reports_of(record, images.__getitem__, where=REPORT)
    assert outcome is not None
    return outcome, {**images, **reports}


def _finish(run: GateRun) -> Outcome:
    """Return the outcome of what the tests reported; an input that has changed meanwhile is an error."""
    from harness.calibration.panel import recorded_curves
    from harness.run.input_faults import ON_CLEAN_IMAGES, input_faults, other_order_of

    try:
        run.expect_same_inputs()
    except InputError as error:
        run.reported.errors.append(reason(error))
    session, request, default, curves, faults = run.prepare(), run.request, None, {}, None
    failed = {each.check.family for each in run.reported.verdicts.values() if each.status == "fail"}
    able = not (run.reported.interrupted or run.hung or request.stopped) and request.record is None
    able = able and bool(failed & ON_CLEAN_IMAGES)
    if able and (found := _tried(run, "order of classes", lambda: other_order_of(session), lambda _: "")):
        run.reported.errors.append(found)
    if session.checks.data.sample is not None:
        with suppress(InputError):
            default = read_checks(request.default_checks_path)
    outcome = outcome_of(
        run.reported,
        session,
        profile=request.profile,
        command=run.command,
        run=run.config.stash[CLAIM].run,
        default=default,
    )
    if outcome.overview is not None:
        with suppress(InputError):  # Figures then have no bands.
            curves = recorded_curves(session.checks, request.root)
    if able and session.roles["candidate"].provides.live:
        faults = _tried(run, "input faults", lambda: input_faults(session), lambda _: None)
    panel = session.checks.recipe.get("panel")
    sha256 = hash_of_file(request.root / str(panel)) if panel else None
    return replace(
        outcome,
        recipe=outcome.recipe | ({"panel_sha256": sha256} if sha256 else {}),
        reference_curves={name: tuple(each) for name, each in curves.items()},
        input_faults=faults,
        pictures=run.book.shown(),
        thumbnails=_thumbnails(session, outcome) if run.pictured else {},
        brief=not run.pictured,
    )


def _thumbnails(session: StressSession, outcome: Outcome) -> dict[str, str]:
    from harness.report.pictures import source_of
    from harness.run.examples import thumbnails_of

    found = {} if outcome.overview is None else thumbnails_of(session.images, outcome.overview)
    for family in filter(session.of_rows.__contains__, families_with_rows()):  # They have an image for each row.
        images = session.of_rows[family]
        at = {check.id: position for position, check in enumerate(session.checks.family(family))}
        shown = [each.check.id for each in worst_first(outcome.verdicts) if each.check.id in at][:ROWS_PICTURED]
        found |= {name: images.pixels[at[name]].permute(1, 2, 0).numpy() for name in shown}
    return {name: source_of(each) for name, each in found.items()}


def judge(run: GateRun, session: StressSession, check: Check) -> Verdict | None:
    """Return what the stress test of a check says of another session's candidate; None where it shows no verdict.

    pytest sets the test up, while the run has this session and evidence. Fixtures that take none of the gate's, nor
    `request`, keep their values. None where no such test was collected here or it does not apply, or a fixture raises:
    it may expect a network.
    """
    test = run.tests.get(check.id)
    if test is None:
        return None
    kept, row = (run.session, run.evidence), test.callspec.params["stress_check"]
    run.evidence = Evidence()
    try:
        run.session = session.of_check(check)
        run.session.expect_answers_for(row.family)  # type: ignore[attr-defined]
        expect_answers_to_draws(test.obj, run.session)
        test.session._setupstate.teardown_exact(test.parent)  # type: ignore[arg-type]
        test._initrequest()
        try:
            test.session._setupstate.setup(test)
        except (Exception, pytest.fail.Exception):
            return None
        with suppress(AssertionError, pytest.fail.Exception):  # The verdict says the same.
            test.obj(**{name: test.funcargs[name] for name in test._fixtureinfo.argnames})
    except (pytest.skip.Exception, NotApplicableError):
        return None
    else:
        return run.evidence.verdict
    finally:
        _end(test)
        run.session, run.evidence = kept


def _end(test: pytest.Function) -> None:
    """End the fixtures that the session decides, or may decide; what they raise changes no verdict."""
    for definitions in test._fixtureinfo.name2fixturedefs.values():
        for definition in definitions:
            takes_request = "request" in definition.argnames and not definition.func.__module__.startswith("_pytest.")
            if definition.argname == "stress_session" or takes_request:
                with suppress(Exception):
                    definition.finish(test._request)  # type: ignore[arg-type]
    with suppress(Exception):
        test.session._setupstate.teardown_exact(test.parent)  # type: ignore[arg-type]
    test._request = False  # type: ignore[assignment]  # pytest makes another for the next run.


def end_all(session: pytest.Session) -> None:
    """End what all replays have set up; what that raises changes no verdict."""
    with suppress(Exception, pytest.fail.Exception):
        session._setupstate.teardown_exact(None)
