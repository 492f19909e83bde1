"""Publication: the verdict of a run as an attestation, in a model card, and as a badge."""

from harness.base.features import Command

_COMMAND = "harness.features.publication.command"


def stress_commands() -> dict[str, Command]:
    return {
        "attest": Command(
            "Gate", _COMMAND, "Write the verdict of a run as an in-toto statement, for signing."
        ),
        "card": Command(
            "Gate", _COMMAND, "Write the verdict of a run as a section of a model card."
        ),
        "badge": Command("Gate", _COMMAND, "Write the verdict of a run as a badge of shields.io."),
    }
