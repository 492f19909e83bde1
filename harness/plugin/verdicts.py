"""From a test to its verdict: what it showed, what stopped it, or why it does not apply."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.codes import Code
from harness.base.errors import (
    InputError,
    Interruption,
    NotApplicableError,
    code_of,
    foreign_code,
    printable,
)
from harness.base.records import as_json
from harness.plugin.calls import arguments_of, check_of, check_or_none
from harness.plugin.not_applicable import NotApplicable
from harness.plugin.pictures import PICTURES, panels
from harness.plugin.replays import keep_call, note_fixture
from harness.plugin.run import RUN
from harness.run.arguments import ARGUMENTS
from harness.run.hypothesis_poses import expect_answers_to_draws, inner_test, with_smallest_pose

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.checks import Check, Verdict
    from harness.plugin.run import GateRun
    from harness.run.session import StressSession

VERDICT = "stress_gate"
"""The name under which a test's verdict travels in its report's properties."""
SECONDS = "stress_cpu_seconds"
"""The name of the seconds of all cores that a test took, there."""
_SECONDS = pytest.StashKey[float]()
"""Seconds of all cores that the call of a test took."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Start each test with no evidence, and limit the time in which fixtures load what it needs."""
    run = item.config.stash[RUN]
    run.evidence.clear()
    with run.limited(item.name) if run.active else nullcontext():
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of the test."""
    run = item.config.stash[RUN]
    start = time.process_time()
    try:
        with run.limited(item.name) if run.active else nullcontext():
            yield
    finally:
        item.stash[_SECONDS] = time.process_time() - start


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Note the fixtures of the user's that no replay can give to a test."""
    run = request.config.stash[RUN]
    if run.active:
        note_fixture(run, fixturedef)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip a stress test that does not apply to this model or data, or lacks a row."""
    run = pyfuncitem.config.stash[RUN]
    row = check_or_none(pyfuncitem)
    if not run.active or run.checks is None or row is None:
        return (yield)
    try:
        session = run.prepare()
        _give_own_sample(pyfuncitem, session, row)
        keep_call(run, pyfuncitem)
        session.scope.expect_answers_for(row.family)
        expect_answers_to_draws(pyfuncitem.obj, session)
        return (yield)
    except NotApplicableError as error:
        raise NotApplicable.because(error) from None
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        if row.definition in run.definitions:
            raise
        why = f"{run.checks.path} has no row for it, and it cannot run without one ({error!r})"
        raise NotApplicable(why) from None


def _give_own_sample(item: pytest.Function, session: StressSession, row: Check) -> None:
    """Give a test the images of its check's own sample; fixtures have those of all tests."""
    own_session = session.of_check(row)
    if own_session is session:
        return
    for name, (_, make) in ARGUMENTS.items():
        if name in item.funcargs:
            item.funcargs[name] = make(own_session)
    if "stress_session" in item.funcargs:
        item.funcargs["stress_session"] = own_session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the test's verdict and pictures to its report.

    Wrappers of other plugins, which may change the report, are around this one, so the verdict is
    there before.
    """
    run = item.config.stash[RUN]
    error = call.excinfo.value if call.excinfo else None
    if run.active and isinstance(error, Interruption):
        # No other test waits for a model that hangs, or for what it ran on.
        run.hung = True
        item.session.shouldstop = f"{item.name} had no answer"

    report = yield
    if not run.active or item.get_closest_marker("stress_check") is None:
        return report
    if report.when != "call" and report.passed:
        return report  # Set-up or tear-down; the call has the verdict.
    assert isinstance(item, pytest.Function)
    if inner_test(item.obj):
        run.evidence.settle_on_last_failure()
    if _is_left_out(run, report, error):
        return report

    row = check_of(item)
    verdict = _verdict_of(run, row, report, call)
    # An error of a test or a model in this repetition adds nothing to the measurement.
    with suppress(Exception, Interruption), run.limited(row.id), foreign_code():
        verdict = with_smallest_pose(item.obj, arguments_of(item), verdict, run.evidence)
    _set_result(report, item, verdict)
    _attach_verdict(report, item, verdict)
    if run.pictured and not run.hung:
        with suppress(Exception, Interruption), run.limited(row.id), foreign_code():
            _attach_pictures(run, report, item, verdict)
    return report


def _is_left_out(run: GateRun, report: pytest.TestReport, error: BaseException | None) -> bool:
    """Return whether a test has no verdict because it skips itself, or may fail (xfail)."""
    if not report.skipped or isinstance(error, NotApplicable):
        return False
    # A skip after a failure was shown changes nothing about it.
    return hasattr(report, "wasxfail") or not _shows_failure(run)


def _shows_failure(run: GateRun) -> bool:
    """Return whether the running test has shown a verdict that does not pass."""
    return run.evidence.verdict is not None and not run.evidence.verdict.passed


def _verdict_of(
    run: GateRun, row: Check, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Verdict:
    """Return the verdict that a test showed, unless an error or a skip outranks it."""
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, NotApplicable) and not _shows_failure(run):
        verdict = row.unjudged("not_applicable", error.msg)
        return replace(verdict, lacking=error.lacking, without=error.without)
    if run.hung and error is not None:
        return row.unjudged("error", str(error), code=code_of(error))
    if run.hung:
        return row.unjudged("error", "the model hangs", code=Code.TIME_LIMIT)
    if report.failed and not (_shows_failure(run) and _asserted(error)):
        return _verdict_of_error(row, report, call)

    own_verdict = run.evidence.verdict
    mistake = _mistake(run, row, own_verdict)
    if own_verdict is None or mistake:
        return row.unjudged("error", mistake, code=Code.TEST)
    return own_verdict


def _verdict_of_error(
    row: Check, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Verdict:
    """Return the verdict on a row whose test failed otherwise than by what it showed."""
    if call.excinfo is None:  # A plugin failed the report.
        message = str(report.longrepr)
        code = str(Code.TEST)
    else:
        error = call.excinfo.value
        message = str(error) if isinstance(error, InputError) else call.excinfo.exconly()
        code = code_of(error)
    if code == Code.INTERNAL:
        code = Code.TEST
    return row.unjudged("error", message.splitlines()[0], code=code)


def _asserted(error: BaseException | None) -> bool:
    """Return whether a test failed by what it asserts; Hypothesis groups several failures."""
    return isinstance(error, (AssertionError, pytest.fail.Exception, BaseExceptionGroup))


def _mistake(run: GateRun, row: Check, verdict: Verdict | None) -> str:
    """Return why the verdict that a test shows is not one on its row; empty if it is."""
    if verdict is None:
        return "the test judged nothing; end it with `stress_check.judge` and `evidence.show`"

    session = run.prepare()
    # Judging adds the direction of the metric alone.
    own_check = replace(session.scaled(row), direction=None)
    if replace(verdict.check, direction=None) != own_check:
        return (
            f"the test shows the verdict of another check than its own ({verdict.check.id}, "
            f"threshold {verdict.threshold}); let `stress_check.judge` judge, without a change to "
            "the check"
        )

    images = len(session.images)
    if verdict.stopped and verdict.n != images:
        return (
            f"the run has stopped for {images} images, and the test measured {verdict.n}; measure "
            "the accuracy over `images`, or run the gate without stop"
        )

    has_weights = session.of_check(row).images.strata is not None
    if verdict.value is not None and verdict.sampling is None and has_weights:
        return (
            f"the test measured {verdict.metric!r} without the weights of its sample; give "
            "`images` to `share_of`, `count_of` or `mean_of`, or write a number of images in "
            "[data.samples]"
        )
    return ""


def _set_result(report: pytest.TestReport, item: pytest.Item, verdict: Verdict) -> None:
    """Have pytest count and explain a test as its verdict does.

    A check that fails, or is an error, is a failed test, whatever its test asserted. A check
    without a threshold, or that its sample leaves open, neither passes nor fails.
    """
    informational = report.passed and verdict.status == "informational"
    error_unseen = verdict.status == "error" and not report.failed
    if verdict.is_open or informational:
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {printable(verdict.explain())}")
    elif verdict.status in {"fail", "inconclusive"} or error_unseen:
        report.outcome = "failed"
        report.longrepr = printable(verdict.explain())


def _attach_verdict(report: pytest.TestReport, item: pytest.Item, verdict: Verdict) -> None:
    report.user_properties.append((VERDICT, as_json(verdict)))
    report.user_properties.append((SECONDS, item.stash.get(_SECONDS, 0.0)))
    # JUnit takes its properties from the reports after this one, which copy the item's.
    names = ["status", "metric", "value", "threshold", "n"]
    if verdict.stopped:
        names.append("stopped")
    item.user_properties += [(name, getattr(verdict, name)) for name in names]


def _attach_pictures(
    run: GateRun, report: pytest.TestReport, item: pytest.Item, verdict: Verdict
) -> None:
    turn = item.session.items.index(item)
    pictures = run.pictures.maker.take(run.evidence, verdict, run.prepare(), turn=turn)
    report.user_properties.append((PICTURES, pictures))
    if getattr(item.config.option, "htmlpath", None):
        extras = [*getattr(report, "extras", ()), panels(pictures)]
        setattr(report, "extras", extras)  # noqa: B010  pytest-html's attribute.
