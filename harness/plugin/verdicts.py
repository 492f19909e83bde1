"""From a test to its verdict: what it showed, what stopped it, or why it does not apply; with pictures."""

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
from harness.checks import Check
from harness.plugin.calls import arguments_of
from harness.plugin.pictures import PICTURES, panels
from harness.plugin.replays import keep_call, note_fixture
from harness.plugin.run import PROPERTY, RUN, SECONDS, NotApplicable
from harness.run.arguments import ARGUMENTS
from harness.run.hypothesis_poses import expect_answers_to_draws, inner_test, with_smallest_pose

if TYPE_CHECKING:
    from collections.abc import Generator

    from harness.checks import Verdict
    from harness.plugin.run import GateRun
    from harness.run.session import StressSession

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
    run, start = item.config.stash[RUN], time.process_time()
    try:
        with run.limited(item.name) if run.active else nullcontext():
            yield
    finally:
        item.stash[_SECONDS] = time.process_time() - start


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> None:
    """Note the fixtures of the user's that no replay can give to a test: they depend on the session."""
    run = request.config.stash[RUN]
    if run.active:
        note_fixture(run, fixturedef)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Leave out a stress test that does not apply to this model or data, or that needs a row and has none."""
    run = pyfuncitem.config.stash[RUN]
    row = getattr(pyfuncitem, "callspec", None) and pyfuncitem.callspec.params.get("stress_check")
    if not (run.active and run.checks and isinstance(row, Check)):
        return (yield)
    try:
        _look_at_the_sample(pyfuncitem, run.prepare(), row)
        keep_call(run, pyfuncitem)
        run.prepare().scope.expect_answers_for(row.family)
        expect_answers_to_draws(pyfuncitem.obj, run.prepare())
        return (yield)
    except NotApplicableError as error:
        raise NotApplicable.because(error) from None
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        if row.definition in run.rows:
            raise
        why = f"{run.checks.path} has no row for it, and it cannot run without one ({error!r})"
        raise NotApplicable(why) from None


def _look_at_the_sample(item: pytest.Function, session: StressSession, row: Check) -> None:
    """Give a test of a check with a sample of its own the images of that; its fixtures are those of all tests."""
    own = session.of_check(row)
    if own is session:
        return
    item.funcargs |= {
        name: make(own) for name, (_, make) in ARGUMENTS.items() if name in item.funcargs
    }
    if "stress_session" in item.funcargs:
        item.funcargs["stress_session"] = own


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the test's verdict and pictures to its report; one that is skipped, or may fail (xfail), has none.

    A skip after a failure was shown changes nothing about it. Wrappers of other plugins, which may change the report,
    are around this one, so the verdict is there before. No other test waits for a model that hangs, or for what it ran
    on.
    """
    run = item.config.stash[RUN]
    if run.active and call.excinfo is not None and isinstance(call.excinfo.value, Interruption):
        run.hung = True
        item.session.shouldstop = f"{item.name} had no answer"
    report = yield
    if (
        not run.active
        or item.get_closest_marker("stress_check") is None
        or (report.when != "call" and report.passed)
    ):
        return report
    row: Check = item.callspec.params["stress_check"]  # type: ignore[attr-defined]
    if inner_test(item.obj):  # type: ignore[attr-defined]
        run.evidence.settle_on_last_failure()
    skip, shown = call.excinfo.value if call.excinfo else None, run.evidence.verdict
    failed = shown is not None and not shown.passed
    if (
        report.skipped
        and not isinstance(skip, NotApplicable)
        and (hasattr(report, "wasxfail") or not failed)
    ):
        return report
    verdict = _verdict_of(run, row, report, call)
    # An error of a test or a model in this repetition adds nothing to the measurement.
    with suppress(Exception, Interruption), run.limited(row.id), foreign_code():
        assert isinstance(item, pytest.Function)
        verdict = with_smallest_pose(item.obj, arguments_of(item), verdict, run.evidence)
    _say(report, item, verdict)
    report.user_properties += [
        (PROPERTY, as_json(verdict)),
        (SECONDS, item.stash.get(_SECONDS, 0.0)),
    ]
    # JUnit takes its properties from the reports after this one, which copy the item's.
    names = (
        "status",
        "metric",
        "value",
        "threshold",
        "n",
        *(["stopped"] if verdict.stopped else []),
    )
    item.user_properties += [(name, getattr(verdict, name)) for name in names]
    if run.pictured and not run.hung:
        with suppress(Exception, Interruption), run.limited(row.id), foreign_code():
            turn = item.session.items.index(item)
            made = run.pictures.take(run.evidence, verdict, run.prepare(), turn=turn)
            report.user_properties.append((PICTURES, made))
            if getattr(item.config.option, "htmlpath", None):
                setattr(report, "extras", [*getattr(report, "extras", ()), panels(made)])  # noqa: B010  pytest-html's.
    return report


def _verdict_of(
    run: GateRun, row: Check, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> Verdict:
    """Return what a test says of its row: what it showed, unless it was skipped or stopped before or after that."""
    raised, verdict = call.excinfo.value if call.excinfo else None, run.evidence.verdict
    if isinstance(raised, NotApplicable) and (verdict is None or verdict.passed):
        return replace(
            row.unjudged("not_applicable", raised.msg),
            lacking=raised.lacking,
            without=raised.without,
        )
    if run.hung:
        code = code_of(raised) if raised else Code.TIME_LIMIT
        return row.unjudged("error", str(raised) if raised else "the model hangs", code=code)
    if report.failed and (verdict is None or verdict.passed or not _asserted(call)):
        what = call.excinfo.exconly() if call.excinfo else str(report.longrepr)
        what = str(raised) if isinstance(raised, InputError) else what
        code = code_of(raised) if raised else Code.TEST
        return row.unjudged(
            "error", what.splitlines()[0], code=Code.TEST if code == Code.INTERNAL else code
        )
    if verdict is None:
        return row.unjudged(
            "error",
            "the test judged nothing; end it with `stress_check.judge` and `evidence.show`",
            code=Code.TEST,
        )
    wrong = _mistake(run, row, verdict)
    return row.unjudged("error", wrong, code=Code.TEST) if wrong else verdict


def _mistake(run: GateRun, row: Check, verdict: Verdict) -> str:
    # Judging adds the direction of the metric alone.
    if replace(verdict.check, direction=None) != replace(run.prepare().scaled(row), direction=None):
        return (
            f"the test shows the verdict of another check than its own ({verdict.check.id}, threshold "
            f"{verdict.threshold}); let `stress_check.judge` judge, without a change to the check"
        )
    if verdict.stopped and verdict.n != len(run.prepare().images):
        return (
            f"the run has stopped for {len(run.prepare().images)} images, and the test measured {verdict.n}; measure "
            "the accuracy over `images`, or run the gate without stop"
        )
    if (
        verdict.value is not None
        and verdict.sampling is None
        and run.prepare().of_check(row).images.strata is not None
    ):
        return (
            f"the test measured {verdict.metric!r} without the weights of its sample; give `images` to `share_of`, "
            "`count_of` or `mean_of`, or write a number of images in [data.samples]"
        )
    return ""


def _say(report: pytest.TestReport, item: pytest.Item, verdict: Verdict) -> None:
    """Make the report of a check that fails, or has no threshold, say what was measured.

    A check that fails, or is an error, is a failed test, whatever its test asserted. One that its sample leaves open
    neither passes nor fails.
    """
    if verdict.is_open or (report.passed and verdict.status == "informational"):
        # No threshold judged the value, and a passing test would say the contrary.
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {printable(verdict.explain())}")
    elif verdict.status in {"fail", "inconclusive"} or (
        verdict.status == "error" and not report.failed
    ):
        report.outcome, report.longrepr = "failed", printable(verdict.explain())


def _asserted(call: pytest.CallInfo[None]) -> bool:
    """Return whether a test failed by what it asserts; Hypothesis groups several failures of one test."""
    error = call.excinfo.value if call.excinfo else None
    return isinstance(error, (AssertionError, pytest.fail.Exception, BaseExceptionGroup))
