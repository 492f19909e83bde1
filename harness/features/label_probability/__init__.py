"""Label probabilities: faults that move probabilities before they change any prediction."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "label_probability",
            "Label probabilities",
            measures="Mean probability that the candidate gives the label, and its log loss, on clean and flipped "
            "images.",
            failure="Look for label smoothing, other training images, or a loss that differs from the recipe's.",
            page="behaviours/label-probability",
            area="confidence",
            starter_checks="harness.features.label_probability.starters:label_probability",
            before="rotation",
        ),
        Family(
            "augmentation_gap",
            "Augmentation gaps",
            measures="Change of the label's probability when the same image is rotated, shifted or flipped.",
            failure="The model was trained with less of that augmentation than the reference models.",
            page="behaviours/label-probability",
            area="geometry",
            starter_checks="harness.features.label_probability.starters:augmentation_gap",
            before="rotation",
        ),
    ),
    metrics=(
        "harness.features.label_probability.measures:LABEL_PROBABILITY",
        "harness.features.label_probability.measures:LOG_LOSS",
        "harness.features.label_probability.measures:LABEL_PROBABILITY_CHANGE",
        "harness.features.label_probability.measures:LOG_LOSS_CHANGE",
    ),
)
