"""Fixtures of a stress test: images, models in roles, its check, and the evidence that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.base.errors import NotApplicableError
from harness.plugin.not_applicable import NotApplicable
from harness.plugin.run import RUN
from harness.run.arguments import ARGUMENTS, argument

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check
    from harness.run.evidence import Evidence
    from harness.run.session import StressSession


@pytest.fixture(scope="session")
def stress_session(pytestconfig: pytest.Config) -> StressSession:
    """Return the images, checks and models of this run."""
    return pytestconfig.stash[RUN].prepare()


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config, stress_session: StressSession) -> Evidence:  # noqa: ARG001  It ends with it.
    """Return what takes the verdicts and pictures that tests show."""
    return pytestconfig.stash[RUN].evidence


@pytest.fixture(name="stress_check")
def _check(request: pytest.FixtureRequest, stress_session: StressSession) -> Check:
    """Return the row of the checks file that this test is about."""
    return stress_session.scaled(request.param)


def fixture_of(name: str) -> Callable[..., object]:
    """Return the fixture of an argument of stress tests, or of a role."""
    about, make = argument(name)

    def value(stress_session: StressSession) -> object:
        try:
            return make(stress_session)
        except NotApplicableError as error:
            raise NotApplicable.because(error) from None

    value.__doc__ = f"Return {about}."
    return pytest.fixture(scope="session", name=name)(value)


globals().update({name: fixture_of(name) for name in ARGUMENTS})
