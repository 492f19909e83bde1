"""Skew: a model that is served through another pipeline, and the stage that explains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Command, Family

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData
    from harness.data.skews import Skew
    from harness.measures import Metric
    from harness.report.page import Section
    from harness.run.outcome import Outcome


def stress_commands() -> dict[str, Command]:
    return {
        "skew": Command(
            "Gate",
            "harness.features.skew.command",
            "Name the stage of a serving pipeline that explains the predictions of production.",
            judges=True,
        )
    }


def stress_families() -> list[Family]:
    return [
        Family(
            "skew",
            "Served through another pipeline",
            measures="Predictions that change, and correct ones that are lost, if serving "
            "replaces one stage: decoder, color, resizing, crop, scale or "
            "normalization.",
            failure="Serve by the reference pipeline, or train with the variation that costs "
            "the most.",
            area="other pipelines",
            starter_checks=_starter_checks,
            needs_row=True,
            before="slice",
        )
    ]


def stress_metrics() -> list[Metric]:
    from harness.features.skew.measures import (
        SERVED_CORRECT_PREDICTIONS_LOST,
        SERVED_PREDICTIONS_CHANGED,
    )

    return [SERVED_PREDICTIONS_CHANGED, SERVED_CORRECT_PREDICTIONS_LOST]


def stress_skews() -> list[Skew]:
    from harness.features.skew.catalog import shipped_skews

    return list(shipped_skews())


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.skew.family import starter_checks

    return starter_checks(about)


def stress_sections(outcome: Outcome) -> list[Section | None]:
    from harness.features.skew.family import section

    return [section(outcome)]


def stress_summary_lines(outcome: Outcome) -> list[str]:
    from harness.features.skew.family import costliest

    return costliest(outcome)
