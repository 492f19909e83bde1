"""Shortcuts: marks on training images of one class, which a network learned instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Command, Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric
    from harness.run.mutants import Finding, Judge
    from harness.run.session import StressSession


def stress_commands() -> dict[str, Command]:
    return {
        "shortcuts": Command(
            "Inspect",
            "harness.features.shortcut.command",
            "Find simple properties that predict a class in training images alone, such as a mark.",
        )
    }


def stress_families() -> list[Family]:
    return [
        Family(
            "shortcut",
            "Shortcuts",
            measures="Largest excess, over reference models, of what a mark adds to a class's log "
            "probability on images of other classes. Marks are bars, frames, rulers, squares, "
            "texts, watermarks and tints.",
            failure="The candidate takes the mark for the class. Look for it in the training "
            "images of this class. Remove it, or add it to images of all classes.",
            area="classes",
            starter_checks=_starter_checks,
            needs_row=True,
            before="slice",
        )
    ]


def _starter_checks(about: StarterData) -> list[Row]:
    from harness.features.shortcut.family import starter_checks

    return starter_checks(about)


def stress_metrics() -> list[Metric]:
    from harness.features.shortcut.metrics import SHORTCUT_PULL

    return [SHORTCUT_PULL]


def stress_self_checks(
    session: StressSession, judge: Judge
) -> dict[str, Callable[[], Finding] | None]:
    from harness.features.shortcut.family import a_shortcut_is_noticed

    return {"mark-leads-to-a-class": a_shortcut_is_noticed(session, judge)}
