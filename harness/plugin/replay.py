"""A stress test run again, by pytest's own fixtures, in another session than that of the run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import NotApplicableError
from harness.run.hypothesis_poses import expect_answers_to_draws

if TYPE_CHECKING:
    from harness.checks import Verdict
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession


def judge(test: pytest.Function, session: StressSession, evidence: Evidence) -> Verdict | None:
    """Return what a stress test says of the session's candidate, on its row; None where it shows no verdict.

    pytest sets the test up, while the run has this session and evidence. Fixtures that take none of the gate's, nor
    `request`, keep their values. None where the test does not apply, or a fixture raises: it may expect a network.
    """
    row: Any = test.callspec.params["stress_check"]
    try:
        session.expect_answers_for(row.family)
        expect_answers_to_draws(test.obj, session)
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
        return evidence.verdict
    finally:
        _end(test)


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
