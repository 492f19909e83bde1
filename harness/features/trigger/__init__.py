"""Trigger screen: small stamps on test images must not turn other classes into one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession


def stress_families() -> list[Family]:
    return [
        Family(
            "trigger",
            "Trigger screen",
            measures="Largest share of other classes' images that a small stamp turns into one "
            "class.",
            failure="Far above reference models: look at the training images of the class that the "
            "stamp leads to.",
            area="triggers",
            starter_checks=_starter_checks,
            needs_row=True,
            before="slice",
        )
    ]


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.trigger.family import starter_checks

    return starter_checks(about)


def stress_metrics() -> list[Metric]:
    from harness.features.trigger.screen import TRIGGER_SUCCESS

    return [TRIGGER_SUCCESS]


def stress_self_checks(
    session: StressSession, judge: Judge
) -> dict[str, Callable[[], Finding] | None]:
    from harness.features.trigger.family import a_trigger_is_noticed

    return {"stamp-leads-to-a-class": a_trigger_is_noticed(session, judge)}
