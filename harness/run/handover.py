"""What passes between a gate run and the process that started it; it needs the standard library alone.

A plugin of the started pytest holds it, so no other process has it: neither a copy of this one nor what a model starts.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.base.codes import Code
from harness.base.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Handover:
    """The file of a request, with answers in another beside it, for one process; nobody waits for a run without one."""

    path: Path | None = None
    process: int = field(default_factory=os.getpid)

    @property
    def asked(self) -> dict[str, Any]:
        """Return what is asked for beyond pytest's options; raises `InputError` for a file that cannot be read."""
        return _read(self.path)

    @property
    def run_id(self) -> str:
        """Return the id of the run that is asked for; empty without one."""
        with suppress(InputError):
            return str(self.asked.get("run_id", ""))
        return ""

    @property
    def answered(self) -> dict[str, Any]:
        """Return the answers of the run; raises `InputError` for a file that cannot be read."""
        return _read(self._answers)

    def answer(self, **said: object) -> None:
        """Add answers for the process that waits, if one does; to that, no answer means no verdict."""
        if self._answers is not None:
            with suppress(OSError, InputError):
                self._answers.write_text(json.dumps({**self.answered, **said}), "utf-8")

    @property
    def _answers(self) -> Path | None:
        return self.path and self.path.with_suffix(".answers.json")


def _read(path: Path | None) -> dict[str, Any]:
    if path is None or not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})", code=Code.INTERNAL) from None
    return found
