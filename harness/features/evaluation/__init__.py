"""Evaluation of one model: its accuracy, its failures, and the smallest pose that it fails on."""

from harness.base.features import Command

_COMMAND = "harness.features.evaluation.command"


def stress_commands() -> dict[str, Command]:
    return {
        "evaluate": Command(
            "Inspect",
            _COMMAND,
            "Print a checkpoint's accuracy, failures and suspected label errors.",
        ),
        "break": Command(
            "Inspect", _COMMAND, "Find the smallest rotation and shift that a checkpoint fails on."
        ),
    }
