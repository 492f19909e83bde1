"""Acceptance: a checkpoint that passes the gate becomes the incumbent of later candidates."""

from harness.base.features import Command


def stress_commands() -> dict[str, Command]:
    return {
        "accept": Command(
            "Gate",
            "harness.features.acceptance.command",
            "Gate a checkpoint and, if it passes, make it the incumbent.",
        )
    }
