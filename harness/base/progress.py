"""Progress of long work: a bar on a terminal, and a few lines in a log."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    _Bar = tqdm[Any]
else:
    _Bar = tqdm


_FIRST_S = 2.0
"""Seconds after which work that is not done has its first line in a log."""


class Progress(_Bar):
    """A bar of `tqdm`, on standard error, with the same arguments.

    Without a terminal it writes whole lines.

    These are `lines` in all, one for each tenth by default, the last at the end. Work of more than
    two seconds begins with one more. After `silence` seconds without a line it writes one in any
    case. `tick` draws while a step runs.
    """

    def __init__(
        self, *args: Any, lines: int = 10, silence: float = math.inf, **settings: Any
    ) -> None:
        self._parts, self._lines = 0, lines
        self._silence, self._later_silence = min(silence, _FIRST_S), silence
        self._said = math.inf  # The base class draws once before its clock starts.
        super().__init__(*args, **{"file": sys.stderr, **settings})
        self._said = time.monotonic()

    @property
    def _on_terminal(self) -> bool:
        return bool(self.fp.isatty())

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write a line if another part is done."""
        if self._on_terminal:
            return super().display(
                msg, pos
            )  # `close` needs its result, against tqdm's type annotations.
        parts = int(self._lines * self.n // self.total) if self.total else 0
        late = time.monotonic() - self._said >= self._silence
        if (parts > self._parts or late) and time.time() >= self.start_t + (self.delay or 0):
            self._parts, self._said = parts, time.monotonic()
            self._silence = self._later_silence
            self.fp.write(f"{self}\n")
        return None

    def tick(self, _: object = None) -> None:
        """Draw again with the time spent, though no step is done.

        `inference.devices.watched` calls it for each batch.
        """
        if self.disable:
            return
        now = time.time()
        if now >= self.start_t + (self.delay or 0) and now - self.last_print_t >= self.mininterval:
            self.refresh()
            self.last_print_t = now

    def clear(self, nolock: bool = False) -> None:  # noqa: FBT001, FBT002  tqdm's signature.
        """Remove the bar before other text is written."""
        if self._on_terminal:
            super().clear(nolock)

    def reset(self, total: float | None = None) -> None:
        """Start again from zero."""
        self._parts = 0
        super().reset(total)

    def close(self) -> None:
        """End the bar; without a terminal it writes a last line if needed."""
        if not getattr(self, "disable", True) and not self._on_terminal:
            self.display()
            self.leave = False
        super().close()
