"""Leakage: test images with a near-duplicate among the training images."""

from harness.base.features import Command


def stress_commands() -> dict[str, Command]:
    return {
        "leakage": Command(
            "Inspect",
            "harness.features.leakage.command",
            "Find near-duplicates between training and test images.",
        )
    }
