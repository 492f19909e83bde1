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
    """Return checks of the largest soft confusion and of each confusable pair, both ways.

    There is no check of the largest one for more than `MANY` classes.
    """
    rows: list[Row] = []
    if len(about.images.classes) <= MANY:
        rows.append(("soft-confusion-largest", "largest_soft_confusion", {}))
    for pair in about.pairs:
        for true, other in (pair, pair[::-1]):
            name = f"soft-confusion-{about.slugs[true]}-{about.slugs[other]}"
            rows.append((name, "soft_confusion", {"pair": [true, other]}))
    return rows
