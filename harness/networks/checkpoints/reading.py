"""The bytes of a checkpoint: of a regular file, of a sensible size, read once."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from harness.networks.checkpoints.refusals import CheckpointRefused

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Larger files are refused before they are read."""

_NEXT_STEP = "Name a checkpoint file (.safetensors, .pt or .pth)."


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless there is a regular file at `path`; for a look before long work."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have.
        raise CheckpointRefused("NOT_REGULAR", path, f"cannot be opened ({_reason(error)})", _NEXT_STEP) from None
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointRefused("NOT_REGULAR", path, "not a regular file", _NEXT_STEP)


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`; raises `CheckpointRefused` for anything else."""
    require_file(path)  # Opening a device may do something, so that it is not opened at all.
    try:
        # Not blocking on a FIFO, and asking the opened file itself, so that it cannot be swapped in between.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointRefused("NOT_REGULAR", path, "not a regular file", _NEXT_STEP)
            if status.st_size > MAX_BYTES:
                fact = f"{status.st_size} bytes are more than the limit of {MAX_BYTES}"
                raise CheckpointRefused("TOO_LARGE", path, fact, _NEXT_STEP)
            # No more than it claims: a file that grows meanwhile, or one that the kernel makes up, may have no end.
            return file.read(status.st_size)
    except OSError as error:
        raise CheckpointRefused("NOT_REGULAR", path, f"cannot be read ({_reason(error)})", _NEXT_STEP) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
