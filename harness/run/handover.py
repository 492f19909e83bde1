"""Request and answers between a gate run and the process that started it; it needs the standard library alone.

A plugin of the started pytest holds it, so no other process has it: neither a copy of this one nor what a model starts.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Handover:
    """The file of a request, to which one process adds its answers; nobody waits for a run without one."""

    path: Path | None = None
    process: int = field(default_factory=os.getpid)

    @property
    def content(self) -> dict[str, Any]:
        """Return what is asked and answered; empty where the file cannot be read."""
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads(self.path.read_bytes())) if self.path else {}
        return {}

    def answer(self, **said: object) -> None:
        """Add answers for the process that waits, if one does; to that, no answer means no verdict."""
        if self.path is not None:
            with suppress(OSError):
                self.path.write_text(json.dumps({**self.content, **said}), "utf-8")
