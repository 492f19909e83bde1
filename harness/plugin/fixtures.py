"""Fixtures of a stress test: images, models in roles, its check, and the evidence that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.base.errors import NotApplicableError, NotRecordedError
from harness.checks.roles import ROLES
from harness.plugin.run import RUN, NotApplicable

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import Check
    from harness.inference import RoleModel
    from harness.measures.panel.pairing import PairedIncumbent
    from harness.measures.panel.predictions import PanelPredictions
    from harness.run.evidence import Evidence
    from harness.run.session import LabelledImages, StressSession


@pytest.fixture(scope="session")
def stress_session(pytestconfig: pytest.Config) -> StressSession:
    """Return the images, checks and models of this run."""
    return pytestconfig.stash[RUN].prepare()


@pytest.fixture(scope="session")
def images(stress_session: StressSession) -> LabelledImages:
    """Return the labeled test images."""
    return stress_session.images


@pytest.fixture(scope="session")
def search_images(stress_session: StressSession) -> LabelledImages:
    """Return the fixed sample that grids of poses are searched on."""
    return stress_session.search_images


@pytest.fixture(scope="session")
def panel_images(stress_session: StressSession) -> LabelledImages:
    """Return the fixed sample for what a panel of reference models is asked in many ways, which no profile enlarges."""
    return stress_session.panel_images


@pytest.fixture(scope="session")
def probe_images(stress_session: StressSession) -> LabelledImages:
    """Return the fixed, smaller sample for searches that draw their poses."""
    return stress_session.probe_images


@pytest.fixture(scope="session")
def golden_images(stress_session: StressSession) -> LabelledImages:
    """Return the images that must never be wrong again."""
    return stress_session.golden_images


@pytest.fixture(scope="session")
def unknown_images(stress_session: StressSession) -> LabelledImages | None:
    """Return the images from elsewhere, of no class, that the setting `unknown` names; None without it."""
    return stress_session.elsewhere


def fixture_of(role: str) -> Callable[..., RoleModel]:
    """Return the fixture of a role: its model. A test does not apply without one, or if it is the candidate."""

    def model(stress_session: StressSession) -> RoleModel:
        try:
            return stress_session.role(role)
        except NotApplicableError as error:
            raise NotApplicable.because(error) from None

    model.__doc__ = f"Return {ROLES[role].about[0].lower()}{ROLES[role].about[1:]}."
    return pytest.fixture(scope="session", name=role)(model)


globals().update({role: fixture_of(role) for role in ROLES})


@pytest.fixture(scope="session")
def panel_predictions(stress_session: StressSession) -> PanelPredictions:
    """Return the panel predictions; a test that needs them does not apply where none are recorded."""
    if stress_session.panel_predictions is None:
        error = NotRecordedError("there are no panel predictions; `stress-harness calibrate` records them")
        raise NotApplicable.because(error)
    return stress_session.panel_predictions


@pytest.fixture(scope="session")
def paired_incumbent(stress_session: StressSession) -> PairedIncumbent:
    """Return the incumbent's correct predictions, those of another reference model while a panel is measured."""
    return stress_session.paired_incumbent


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config) -> Evidence:
    """Return what takes the verdicts and pictures that tests show."""
    return pytestconfig.stash[RUN].evidence


@pytest.fixture(name="stress_check")
def _check(request: pytest.FixtureRequest, stress_session: StressSession) -> Check:
    """Return the row of the checks file that this test is about."""
    return stress_session.scaled(request.param)
