"""Skew: checks of a model that is served through another pipeline, and the stage that explains served predictions."""

from harness.base.features import Command, Family, Feature

FEATURE = Feature(
    commands={
        "skew": Command(
            "Gate",
            "harness.features.skew.command",
            "Name the stage of a serving pipeline that explains the predictions of production.",
            judges=True,
        )
    },
    families=(
        Family(
            "skew",
            "Served through another pipeline",
            measures="Predictions that change, and correct ones that are lost, if serving replaces one stage: decoder, "
            "color, resizing, crop, scale or normalization.",
            failure="Serve by the reference pipeline, or train with the variation that costs the most.",
            area="other pipelines",
            starter_checks="harness.features.skew.family:starter_checks",
            needs_row=True,
            before="slice",
        ),
    ),
    sections={"harness.features.skew.family:section": "differing_predictions"},
    lines=("harness.features.skew.family:costliest",),
)
