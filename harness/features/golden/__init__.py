"""Golden images: each must never be predicted wrongly again, and is a check of its own."""

from harness.base.features import Command, Family, Feature

FEATURE = Feature(
    commands={
        "golden": Command(
            "Gate", "harness.features.golden.command", "Keep images that must never be wrong again."
        )
    },
    families=(
        Family(
            "golden",
            "Golden images",
            measures="Images of an incident or a complaint; the prediction of each must be correct.",
            failure="If reference models are correct, look for more errors among similar images. If not, the training "
            "data lack such images.",
            area="golden images",
            damage="harness.features.golden.mutant:ANSWERS_MOVED",
            needs_row=True,
            rows="harness.features.golden.golden_set:rows",
            images="harness.features.golden.golden_set:labelled_images",
            before="slice",
        ),
    ),
    sections={"harness.features.golden.report:section": "slices"},
)
