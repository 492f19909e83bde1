"""First checks of the families on the consensus set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.first_checks import always
from harness.measures.panel.predictions import MANY

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData

consensus = always(
    ("consensus-clean", "consensus_set_errors", {"under": ["rest"]}),
    ("consensus-class", "worst_class_consensus_set_errors", {"under": ["rest"]}),
    ("consensus-divergence", "panel_divergence"),
    ("consensus-lost-probability", "lost_probability"),
)
"""Checks of errors on clean images, of all classes and of the worst one, and of probabilities."""


def soft_confusion(about: StarterData) -> list[Row]:
    """Return checks of the largest soft confusion of at most `MANY` classes, and both ways of each confusable pair."""
    pairs = [(one, two) for pair in about.pairs for one, two in (pair, pair[::-1])]
    largest: list[Row] = [("soft-confusion-largest", "largest_soft_confusion", {})]
    return [
        *(largest if len(about.images.classes) <= MANY else ()),
        *(
            (
                f"soft-confusion-{about.slugs[one]}-{about.slugs[two]}",
                "soft_confusion",
                {"pair": [one, two]},
            )
            for one, two in pairs
        ),
    ]
