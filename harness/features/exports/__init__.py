"""Exports of the images that checks ask about, for predictions in another system."""

from harness.base.features import Command


def stress_commands() -> dict[str, Command]:
    return {
        "export-inputs": Command(
            "Maintain",
            "harness.features.exports.command",
            "Write the images of the checks, for predictions in another system.",
        )
    }
