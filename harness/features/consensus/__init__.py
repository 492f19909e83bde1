"""Consensus set: images that every reference model predicts correctly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from harness.checks.damages import Damage
    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric


def stress_families() -> list[Family]:
    return [
        Family(
            "consensus",
            "Consensus set",
            measures="Number of images that every reference model predicts correctly and the "
            "candidate does not.",
            failure="Errors in all classes mean damaged weights, another precision or other "
            "preprocessing. Errors in one class point to its labels.",
            area="clean images",
            starter_checks=_consensus_checks,
            before="rotation",
        ),
        Family(
            "soft_confusion",
            "Soft confusions",
            measures="Probability that the candidate gives another class, on images that every "
            "reference model predicts correctly.",
            failure="The pair names the classes: look at their training labels first, then at "
            "marks in their images.",
            page="behaviours/soft-confusion",
            area="classes",
            starter_checks=_soft_confusion_checks,
            damage=_mixed_classes,
            needs_row=True,
            before="rotation",
        ),
    ]


def _consensus_checks(about: StarterData) -> list[Row]:
    from harness.features.consensus.starters import consensus

    return consensus(about)


def _soft_confusion_checks(about: StarterData) -> list[Row]:
    from harness.features.consensus.starters import soft_confusion

    return soft_confusion(about)


def _mixed_classes() -> Damage:
    from harness.features.consensus.mutant import MIXED

    return MIXED


def stress_metrics() -> list[Metric]:
    from harness.features.consensus import measures, soft

    return [
        measures.CONSENSUS_SET_ERRORS,
        measures.WORST_CLASS_CONSENSUS_SET_ERRORS,
        soft.PANEL_DIVERGENCE,
        soft.LOST_PROBABILITY,
        soft.SOFT_CONFUSION,
        soft.LARGEST_SOFT_CONFUSION,
    ]
