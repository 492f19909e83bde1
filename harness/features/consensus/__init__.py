"""Consensus set: images that every reference model predicts correctly, and what a model makes of them."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "consensus",
            "Consensus set",
            measures="Number of images that every reference model predicts correctly and the candidate does not.",
            failure="Errors in all classes mean damaged weights, another precision or other preprocessing. Errors in "
            "one class point to its labels.",
            area="clean images",
            starter_checks="harness.features.consensus.starters:consensus",
            before="rotation",
        ),
    ),
    metrics=(
        "harness.features.consensus.measures:CONSENSUS_SET_ERRORS",
        "harness.features.consensus.measures:WORST_CLASS_CONSENSUS_SET_ERRORS",
    ),
)
