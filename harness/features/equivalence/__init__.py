"""Equivalence: an export, a quantized or a compiled copy predicts as the model that it was made from."""

from harness.base.features import Command, Family, Feature

FEATURE = Feature(
    commands={
        "equal": Command(
            "Gate",
            "harness.features.equivalence.command",
            "Say whether an export predicts as the model that it was made from.",
            judges=True,
        )
    },
    families=(
        Family(
            "equivalence",
            "Equal to the original",
            measures="Distance of an export, a quantized or a compiled copy from its original.",
            failure="Look at the changed predictions by class. Common causes are calibration images unlike the data, "
            "other preprocessing and too few bits.",
            page="equivalence",
            area="changes from the original",
            starter_checks="harness.features.equivalence.family:starter_checks",
            needs_role="original",
            before="unknown",
        ),
    ),
    sections={"harness.features.equivalence.report:section": "slices"},
    self_checks={"changed-original": "harness.features.equivalence.family:changes_are_noticed"},
    differences="harness.features.equivalence.report:differences",
    record="harness.features.equivalence.report:OriginalDifferences",
    record_key="differences",
)
