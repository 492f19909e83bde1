"""Replays of stress tests: their functions are called again, with another session."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.imports import is_users
from harness.plugin import fixtures
from harness.plugin.calls import (
    StressCall,
    call_of,
    check_of,
    gate_arguments,
    parameters,
    takes_only_gate_arguments,
    twin_of,
)
from harness.run.evidence import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check, Verdict
    from harness.plugin.run import GateRun
    from harness.run.session import StressSession

_OUTCOMES = (pytest.skip.Exception, pytest.fail.Exception)


def keep_call(run: GateRun, item: pytest.Function) -> None:
    """Keep the call of a test that is about to run, for the self-checks."""
    check = check_of(item)
    if run.collected.tests.get(check.id) is item:
        run.collected.calls[check.id] = None if _depends(run, item) else _with_state(call_of(item))


def note_fixture(run: GateRun, definition: pytest.FixtureDef[Any]) -> None:
    """Note a fixture of the user's that takes an argument of the gate, or looks one up."""
    if getattr(definition.func, "__module__", "") == fixtures.__name__:
        return
    taken = set(definition.argnames)
    dependent = {name for name, _ in run.collected.dependent_fixtures}
    looks_up = "request" in taken and _is_users_function(definition.func)
    if looks_up or taken & (gate_arguments() | dependent):
        run.collected.dependent_fixtures.add((definition.argname, definition.baseid))


class Replays:
    """Replays the collected tests of a run; as a context manager, it ends their fixtures."""

    def __init__(self, run: GateRun) -> None:
        self._run = run
        self._set_up_last: pytest.Function | None = None

    def __enter__(self) -> Replays:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(before=None)

    def judge_for_self_check(self, session: StressSession, check: Check) -> Verdict | None:
        """Return the verdict of a check's test on another session's candidate, or None.

        The user's fixtures keep the values of the run. None if no such test was collected, or if it
        does not apply. Also None for a test with values of the user's that depend on the session,
        or serve one call only.
        """
        call = self._kept_call(check.id)
        if call is None:
            return None
        try:
            verdict = call.judge(session)
        except Exception:
            if takes_only_gate_arguments(self._run.collected.tests[check.id]):
                raise
            return None  # For example, a fixture has closed its file since.
        return verdict if call.serves_again else None

    def judge_set_up(self, session: StressSession, check: Check) -> Verdict | None:
        """Return the verdict of a check's test on a session's candidate, in place of a run.

        None without a verdict. The user's fixtures are set up anew in this session, and are
        alive while the test runs.
        """
        test = self._run.collected.tests.get(check.id)
        if test is None:
            return None
        if takes_only_gate_arguments(test):
            return StressCall(test.obj, check_of(test)).judge(session)
        twin = self._set_up(test, session.of_check(check))
        return None if twin is None else call_of(twin).judge(session)

    def _kept_call(self, check: str) -> StressCall | None:
        """Return the call of a test; a test that has not run in this process is set up, once."""
        run = self._run
        test = run.collected.tests.get(check)
        if test is None:
            return None
        if check not in run.collected.calls:
            run.collected.calls[check] = self._call_to_keep(test)
        return run.collected.calls[check]

    def _call_to_keep(self, test: pytest.Function) -> StressCall | None:
        """Return the call of a test that has not run; None if it has no call to keep.

        Such a test depends on the session, or cannot be set up.
        """
        run = self._run
        if takes_only_gate_arguments(test):
            return _with_state(StressCall(test.obj, check_of(test)))
        if _depends(run, test):
            return None
        twin = self._set_up(test, run.prepare())
        return None if twin is None or _depends(run, test) else _with_state(call_of(twin))

    def _set_up(self, test: pytest.Function, session: StressSession) -> pytest.Function | None:
        """Return a twin of a test, set up by pytest in a session.

        None if a fixture fails or skips the test. The last twin's fixtures of a wider scope stay,
        unless this test has fixtures that depend on the session.
        """
        run = self._run
        twin = twin_of(test)
        was_dependent = _depends(run, test)
        next_test = None if was_dependent else twin
        self._end(before=next_test)
        self._set_up_last = twin

        session_of_run = run.session
        evidence_of_run = run.evidence
        run.session = session
        run.evidence = Evidence()
        try:
            test.ihook.pytest_runtest_setup(item=twin)
        except (Exception, *_OUTCOMES):
            return None
        finally:
            run.session = session_of_run
            run.evidence = evidence_of_run

        if _depends(run, test) and not was_dependent:  # Its fixtures are those of the last twin.
            return self._set_up(test, session)
        return twin

    def _end(self, *, before: pytest.Function | None) -> None:
        """End the fixtures set up last, except those that the next test shares.

        An error there changes no verdict.
        """
        last = self._set_up_last
        self._set_up_last = None
        if last is not None:
            with suppress(Exception, *_OUTCOMES):
                last.ihook.pytest_runtest_teardown(item=last, nextitem=before)


def _with_state(call: StressCall) -> StressCall:
    """Return a call with the state of its values before the first use."""
    return replace(call, state=call.state_now())


def _depends(run: GateRun, item: pytest.Function) -> bool:
    """Return whether a test's fixtures that have been set up depend on the session."""
    if "request" in parameters(item.obj):
        return True
    return any(
        name in item.fixturenames and item.nodeid.startswith(place)
        for name, place in run.collected.dependent_fixtures
    )


def _is_users_function(function: Callable[..., object]) -> bool:
    """Return whether a function is the user's: those of packages look up no model."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    file = getattr(module, "__file__", None)
    return file is None or is_users(file)
