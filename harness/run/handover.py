"""Exchange between the two processes of a run: the request of the outer one, and the record.

It needs the standard library alone. A plugin of the inner pytest holds the file, so no other
process knows it: neither a worker nor what a model starts.
"""

from __future__ import annotations

import base64
import json
import os
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.base.files import read_regular, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_BYTES = 1 << 31


def new_run_id() -> str:
    """Return an id that no other run has: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class RunRecord:
    """Record that the inner process of a run leaves at its end.

    `run` is the id of the run, and `status` the exit status with which pytest ended. `report` is
    the text of `stress.json`, and `pictures` are the files that it names; a plan and a listing have
    none. `plan` is the plan as JSON, empty without one. `code` has the SHA-256 of each file of the
    user's code that ran.
    """

    run: str
    status: int
    report: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    plan: str = ""
    code: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Return the record as JSON, with pictures in base64."""
        pictures = {
            name: base64.b64encode(content).decode() for name, content in self.pictures.items()
        }
        return json.dumps({**vars(self), "pictures": pictures}).encode()

    @staticmethod
    def of_json(content: bytes) -> RunRecord:
        """Return the record in its JSON; `ValueError`, `TypeError` or `KeyError` if it has none."""
        plain = json.loads(content)
        pictures = {name: base64.b64decode(text) for name, text in plain["pictures"].items()}
        return RunRecord(**{**plain, "pictures": pictures})


@dataclass(frozen=True)
class Handover:
    """The file of a run's request, beside which its inner process leaves the record."""

    path: Path
    process: int = field(default_factory=os.getpid)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Return the content of the file: the id of the run, its request, and its command line."""
        return dict(json.loads(self.path.read_bytes()))

    @property
    def interrupted(self) -> Path:
        """Return the file that is there once the inner process ends because of Ctrl-C."""
        return self.path.with_name("interrupted")

    def note_interrupt(self) -> None:
        """Note for the process that waits that this one ends because of Ctrl-C."""
        self.interrupted.touch()

    @property
    def _record(self) -> Path:
        return self.path.with_name("record.json")

    def leave(self, record: RunRecord) -> None:
        """Write the record, all of it or nothing; raises `OSError`.

        A fork of the inner process, such as a model may make, leaves none.
        """
        if os.getpid() == self.process:
            write_atomically(self._record, record.as_json(), durable=False)

    def record(self) -> RunRecord | None:
        """Return the record of this run; None if it is missing, unreadable or of another run."""
        try:
            record = RunRecord.of_json(read_regular(self._record, max_bytes=_MAX_BYTES))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if record.run == self.content["run_id"] else None
