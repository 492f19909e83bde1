"""The note of a report on a candidate of another recipe; it needs no PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.measures.panel.threshold import STATED

if TYPE_CHECKING:
    from harness.checks import Check
    from harness.run.outcome import Outcome

FAMILY = "fingerprint"
OPEN = f'{STATED} recipe = "open"'
"""The reason why a check of the family is informational."""


def recipe_note(outcome: Outcome) -> list[str]:
    """Return a note that the candidate was trained by another recipe, if an open recipe lets it pass."""
    return [
        f"trained by another recipe than the reference panel, so thresholds may not hold: {verdict.detail}"
        for verdict in outcome.results.verdicts
        if verdict.check.family == FAMILY and _is_beyond(verdict.value, verdict.check)
    ]


def _is_beyond(value: float | None, check: Check) -> bool:
    is_open = check.informational == OPEN
    return (
        is_open and value is not None and check.panel is not None and value > check.panel.threshold
    )
