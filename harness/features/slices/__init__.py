"""Found slices: groups of images that nobody named, and what a model loses there against the reference models."""

from harness.base.features import Family, Feature

FEATURE = Feature(
    families=(
        Family(
            "slices",
            "Found slices",
            measures="Probability of the label that the candidate loses on images that reference models predict alike.",
            failure="Look at the pictures of the slice for what its images share, and at such images in training.",
            area="clean images",
            starter_checks="harness.features.slices.measures:starter_checks",
            damage="harness.features.slices.mutant:MOVED",
            needs_row=True,
            before="rotation",
        ),
    ),
    sections={"harness.features.slices.report:found_slices": "label_error_section"},
    differences="harness.features.slices.report:differences",
    record="harness.features.slices.report:WorstSlice",
    record_key="slices",
    metrics=(
        "harness.features.slices.measures:WORST_SLICE",
        "harness.features.slices.measures:SLICE_LOSS",
    ),
)
