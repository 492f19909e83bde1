"""The error of a checkpoint that will not be loaded: a code, a fact, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Code = Literal[
    "NOT_REGULAR",
    "TOO_LARGE",
    "HASH_MISMATCH",
    "FORMAT",
    "PICKLE_GLOBAL",
    "ZIP_LAYOUT",
    "ARCHITECTURE",
    "SCHEMA",
    "NONFINITE",
    "RESOURCE",
]

SAVE_WEIGHTS_ALONE = "Save the weights alone: torch.save(model.state_dict(), path)."
COPY_AGAIN = "Copy the file again, or save it anew."


class CheckpointRefused(InputError):  # noqa: N818  The word that its message begins with.
    """A checkpoint that will not be loaded; `code` says why in one word."""

    def __init__(self, code: Code, path: Path, fact: str, next_step: str) -> None:
        super().__init__(f"REFUSED[{code}] {path}: {fact}. Nothing was executed. {next_step}")
        self.code = code


def shown(text: object, *, length: int = 120) -> str:
    """Return what a file says, fit for a message: one line, printable, cut when long."""
    line = str(text)
    line = line if len(line) <= length else f"{line[:length]}..."
    return line if line.isprintable() else ascii(line)[1:-1]
