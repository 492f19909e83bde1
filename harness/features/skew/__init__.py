"""Diagnosis of a served model: the stage of its pipeline that explains its predictions."""

from harness.base.features import Command, Feature

FEATURE = Feature(
    {
        "skew": Command(
            "Gate",
            "harness.features.skew.command",
            "Name the stage of a serving pipeline that explains the predictions of production.",
            judges=True,
        )
    }
)
