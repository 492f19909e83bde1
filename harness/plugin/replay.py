"""A stress test run as a plain function, in another session than that of the run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from harness.base.errors import NotApplicableError
from harness.checks import Check, Verdict
from harness.run.evidence import Evidence
from harness.run.hypothesis_poses import expect_answers_to_draws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.session import StressSession


def judge(test: pytest.Function, session: StressSession) -> Verdict | None:
    """Return what a stress test says of the session's candidate, on its row.

    None where it shows no verdict, does not apply, or takes a fixture of the user's own.
    """
    evidence, row = Evidence(), test.callspec.params["stress_check"]
    assert isinstance(row, Check)
    session = session.of_family(row.family)
    fixtures: Mapping[str, Any] = {
        **session.roles,
        "images": session.images,
        "search_images": session.search_images,
        "panel_images": session.panel_images,
        "probe_images": session.probe_images,
        "golden_images": session.golden,
        "paired_incumbent": session.paired_incumbent,
        "stress_check": session.scaled(row),
        "evidence": evidence,
        "stress_session": session,
        **({"panel_predictions": session.panel_predictions} if session.panel_predictions else {}),
    }
    wanted = test._fixtureinfo.argnames
    if not set(wanted) <= set(fixtures):
        return None
    try:
        session.expect_answers_for(row.family)
        expect_answers_to_draws(test.obj, session)
        with suppress(AssertionError, pytest.fail.Exception):  # The verdict says the same.
            test.obj(**{name: fixtures[name] for name in wanted})
    except (pytest.skip.Exception, NotApplicableError):
        return None
    return evidence.verdict
