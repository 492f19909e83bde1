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
        Family(
            "soft_confusion",
            "Soft confusions",
            measures="Probability that the candidate gives another class, on images that every reference model "
            "predicts correctly.",
            failure="The pair names the classes: look at their training labels first, then at marks in their images.",
            page="behaviours/soft-confusion",
            area="classes",
            starter_checks="harness.features.consensus.starters:soft_confusion",
            damage="harness.features.consensus.mutant:MIXED",
            needs_row=True,
            before="rotation",
        ),
    ),
    metrics=(
        "harness.features.consensus.measures:CONSENSUS_SET_ERRORS",
        "harness.features.consensus.measures:WORST_CLASS_CONSENSUS_SET_ERRORS",
        "harness.features.consensus.soft:PANEL_DIVERGENCE",
        "harness.features.consensus.soft:LOST_PROBABILITY",
        "harness.features.consensus.soft:SOFT_CONFUSION",
        "harness.features.consensus.soft:LARGEST_SOFT_CONFUSION",
    ),
)
