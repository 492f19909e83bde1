"""Comparison of two models, and a ranking of finished runs."""

from harness.base.features import Command

_COMMAND = "harness.features.comparison.command"


def stress_commands() -> dict[str, Command]:
    return {
        "compare": Command("Inspect", _COMMAND, "Compare two checkpoints on the same images."),
        "rank": Command(
            "Inspect", _COMMAND, "Rank finished runs of the gate by their stress.json."
        ),
    }
