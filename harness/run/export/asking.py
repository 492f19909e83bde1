"""The questions of a run: its tests run once on stand-ins for models, which note the images asked about."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, foreign_code
from harness.checks.roles import ROLES
from harness.inference.planning import Asked, Ledger
from harness.inference.questions import Questions, asked_model
from harness.measures.panel.predictions import PanelPredictions
from harness.run.budget import OVERVIEW, Costs, Plan, plan_from
from harness.run.overview import overview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.checks import Check
    from harness.run.noticed import Judge
    from harness.run.session import StressSession


def questions_of(
    session: StressSession,
    checks: Sequence[Check],
    judge: Judge,
    *,
    overview: bool = False,
    on_failure: Callable[[str, Exception], None] = lambda _name, _error: None,
) -> Questions:
    """Return what the tests of these checks ask models about, and the `overview`; every role has a stand-in.

    `on_failure` is called with a check, and what its test raised: images that it asks for later are not known.
    """
    questions = Questions(rounded=session.checks.data.pixels is not None)
    roles = {role: asked_model(role, session.checks.path, questions) for role in ROLES}
    panel = session.panel_predictions
    if panel is None:
        panel = PanelPredictions(session.images.sha256, session.images.classes, ("asked",), {})
    rows = {check.definition for check in session.checks.checks}
    asked = replace(session, roles=roles, cache=None, panel_predictions=panel)
    for check in checks:
        with questions.under(check.id):
            try:
                with foreign_code():
                    judge(asked, check)
            except NotApplicableError:
                continue
            except Exception as error:  # Of the test, on made-up answers; one without a row may lack a key.
                if check.definition in rows:
                    on_failure(check.id, error)
    if overview:
        with questions.under(OVERVIEW):
            overview_of(asked, searched=any(check.keys.get("path") for check in checks))
    return questions


def fitting(
    session: StressSession, checks: Sequence[Check], judge: Judge, *, seconds: float, images_per_second: float
) -> Plan:
    """Return samples of the families with which a system of this speed answers all images in so many seconds."""

    def count(samples: Mapping[str, int]) -> Ledger:
        return _ledger(questions_of(replace(session, fitted=samples), checks, judge), checks)

    sizes = {check.family: session.size_of(check.family) for check in checks}
    costs = Costs(1 / images_per_second, 0.0, 0)
    return plan_from(count, sizes, costs, images=len(session.images), budget=seconds)


def _ledger(questions: Questions, checks: Sequence[Check]) -> Ledger:
    """Return how many images each family asks for first, and whose it shares."""
    families = {check.id: check.family for check in checks}
    ledger = Ledger({family: Asked() for family in families.values()})
    for question in questions.asked.values():
        first: dict[str, np.ndarray] = {}
        for name, parts in question.by_name.items():
            family, numbers = families[name], np.unique(np.concatenate(parts))
            asked, new = ledger.asked[family], numbers
            for other, known in first.items():
                shared = np.isin(new, known)
                if shared.any() and other != family:
                    asked.shares.add(other)
                new = new[~shared]
            asked.add(passes=1, poses=len(new), images=len(numbers))
            first[family] = np.union1d(first.get(family, new), new)
    return ledger
