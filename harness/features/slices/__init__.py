"""Found slices: groups of images that nobody named, and what a model loses there against the reference models."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "slices",
            "Found slices",
            measures="Probability of the label that the candidate loses in groups of images that look alike to "
            "reference models.",
            failure="Look at the pictures of the slice. If they share a property, name it as a group of the data and "
            "look at such images in training.",
            area="clean images",
            starter_checks="harness.features.slices.rows:starter_checks",
            damage="harness.features.slices.mutant:MOVED",
            needs_row=True,
            before="rotation",
        ),
    ),
    sections={"harness.features.slices.report:found_slices": "comparison"},
    differences="harness.features.slices.report:differences",
    metrics=("harness.features.slices.measures:WORST_SLICE", "harness.features.slices.measures:SLICE_LOSS"),
)
