"""Output of a gate run on a terminal: one that is closed, full or gone changes no verdict."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


class Unfailing:
    """A stream that drops what cannot be written to the one behind it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text, until that fails once; what cannot be encoded is for the caller to escape."""
        if not self.failed:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                raise
            except (OSError, ValueError):
                self.failed = True
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if that works."""
        if not self.failed:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self.failed = True


def stand_in() -> None:
    """Give a process that was started without standard streams some that take everything."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())


def keep_printing(config: pytest.Config) -> None:
    """Have pytest's terminal drop what cannot be printed. Its stream has no public name."""
    writer: Any = getattr(config.pluginmanager.getplugin("terminalreporter"), "_tw", None)
    if hasattr(writer, "_file"):
        writer._file = Unfailing(writer._file)


def keep_refusing() -> None:
    """Have standard error drop what cannot be printed: pytest prints why it refuses, and fails with 1 if it cannot."""
    if not isinstance(sys.stderr, Unfailing):
        sys.stderr = Unfailing(sys.stderr)


def drop_unprinted() -> None:
    """Drop what standard streams still hold and cannot print: at its end Python would exit with a status of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
