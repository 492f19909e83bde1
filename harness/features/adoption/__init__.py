"""Adoption: the first gate of a repository, and a workflow that runs it for each pull request."""

from harness.base.features import Command, Feature

FEATURE = Feature(
    commands={
        "init": Command(
            "Setup", "harness.features.adoption.command", "Make a gate in your own repository."
        )
    }
)
