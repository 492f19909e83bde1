"""Label probabilities: faults that move probabilities before they change any prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.features import Family

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData
    from harness.measures import Metric


def stress_families() -> list[Family]:
    return [
        Family(
            "label_probability",
            "Label probabilities",
            measures="Mean probability that the candidate gives the label, and its log loss, on "
            "clean and flipped images.",
            failure="Look for label smoothing, other training images, or a loss that differs "
            "from the recipe's.",
            page="behaviours/label-probability",
            area="confidence",
            starter_checks=_label_probability_checks,
            before="rotation",
        ),
        Family(
            "augmentation_gap",
            "Augmentation gaps",
            measures="Change of the label's probability when the same image is rotated, shifted or "
            "flipped.",
            failure="The model was trained with less of that augmentation than the reference "
            "models.",
            page="behaviours/label-probability",
            area="geometry",
            starter_checks=_augmentation_gap_checks,
            before="rotation",
        ),
    ]


def _label_probability_checks(about: StarterData) -> list[Row]:
    from harness.features.label_probability.starters import label_probability

    return label_probability(about)


def _augmentation_gap_checks(about: StarterData) -> list[Row]:
    from harness.features.label_probability.starters import augmentation_gap

    return augmentation_gap(about)


def stress_metrics() -> list[Metric]:
    from harness.features.label_probability import measures

    return [
        measures.LABEL_PROBABILITY,
        measures.LOG_LOSS,
        measures.LABEL_PROBABILITY_CHANGE,
        measures.LOG_LOSS_CHANGE,
    ]
