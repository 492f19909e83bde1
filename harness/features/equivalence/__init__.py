"""Equality of an artifact to its original."""

from harness.base.features import Command, Feature

FEATURE = Feature(
    {
        "equal": Command(
            "Gate",
            "harness.features.equivalence.command",
            "Say whether an export predicts as the model that it was made from.",
            judges=True,
        )
    }
)
