"""The family `fingerprint`: its first check, the recipe that a project states, its self-check."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.features.fingerprint.metrics import WEIGHT_DISTANCE
from harness.features.fingerprint.report import FAMILY, OPEN
from harness.run.mutants import finding_of_family, with_changed_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.checks import Check
    from harness.checks.first_checks import Row, StarterData
    from harness.run.mutants import Finding, Judge
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

_GROWTH = 2.0
"""Factor of the weights in the mutant."""


def starter_checks(_: StarterData) -> list[Row]:
    """Return the one check of the family."""
    return [("fingerprint", WEIGHT_DISTANCE.name, {})]


def with_recipe(session: StressSession, request: RunRequest) -> StressSession:
    """Return the session with informational checks of the family if the recipe is open.

    Without a statement, the number of reference models decides: a threshold of fewer than eight is
    informational.
    """
    if request.recipe != "open":
        return session
    checks = []
    for check in session.checks.checks:
        if check.family == FAMILY:
            checks.append(replace(check, informational=OPEN))
        else:
            checks.append(check)
    return replace(session, checks=replace(session.checks, checks=tuple(checks)))


def another_recipe_is_noticed(session: StressSession, judge: Judge) -> Callable[[], Finding] | None:
    """Return the self-check that weights of another scale fail.

    None if no check of the family has a threshold.
    """
    checks = [check for check in session.checks.family(FAMILY) if check.binding]
    return partial(_finding, session, judge, checks) if checks else None


def _finding(session: StressSession, judge: Judge, checks: Sequence[Check]) -> Finding:
    def grow(network: Any) -> None:
        for parameter in network.parameters():
            if parameter.is_floating_point():
                parameter.mul_(_GROWTH)

    mutant = with_changed_network(session, grow)
    harm = f"the model has {_GROWTH:g} times its weights:"
    return finding_of_family(
        FAMILY, checks, mutant, session, judge, harm=harm, fault="another recipe"
    )
