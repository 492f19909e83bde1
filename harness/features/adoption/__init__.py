"""Adoption: the first gate of a repository, and a workflow that runs it for each pull request."""

from harness.base.features import Command


def stress_commands() -> dict[str, Command]:
    return {
        "init": Command(
            "Setup", "harness.features.adoption.command", "Make a gate in your own repository."
        )
    }
