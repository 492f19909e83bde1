"""The record of the recipe setting, and the note on a candidate of another recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.base.records import record
from harness.measures.panel.threshold import STATED
from harness.run.feature_records import FeatureRecord

if TYPE_CHECKING:
    from harness.checks import Check
    from harness.run.outcome import Outcome

FAMILY = "fingerprint"
OPEN = f'{STATED} recipe = "open"'
"""The reason why a check of the family is informational."""


@record
class RecipeStatement(FeatureRecord):
    """The effective value of the setting `recipe`: `same` unless the project states an open one."""

    recipe: Literal["same", "open"]


def recipe_note(outcome: Outcome) -> list[str]:
    """Return a note if the candidate was trained by another recipe and an open one lets it pass."""
    return [
        f"trained by another recipe than the reference panel, so thresholds may not hold: "
        f"{verdict.detail}"
        for verdict in outcome.results.verdicts
        if verdict.check.family == FAMILY and _is_beyond(verdict.value, verdict.check)
    ]


def _is_beyond(value: float | None, check: Check) -> bool:
    """Return whether the value of a check freed by an open recipe exceeds the threshold."""
    if check.informational != OPEN or value is None or check.panel is None:
        return False
    return value > check.panel.threshold
