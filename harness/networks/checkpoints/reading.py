"""The bytes of a checkpoint: of a regular file, of a sensible size, read once."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.networks.checkpoints.refusals import CheckpointRefused
from harness.store import files

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 30
"""Larger files are refused before they are read."""

_NEXT_STEP = "Name a checkpoint file (.safetensors, .pt or .pth)."


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless there is a regular file at `path`; for a look before long work."""
    try:
        files.require_regular(path)
    except OSError as error:
        raise _refusal(path, error, "opened") from None


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file of at most `MAX_BYTES`; raises `CheckpointRefused` for anything else."""
    require_file(path)
    try:
        return files.read_regular(path, max_bytes=MAX_BYTES)
    except OSError as error:
        raise _refusal(path, error, "read") from None


def _refusal(path: Path, error: OSError, done: str) -> CheckpointRefused:
    fact = error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return CheckpointRefused("TOO_LARGE", path, fact, _NEXT_STEP)
    said = fact if fact == "not a regular file" else f"cannot be {done} ({fact})"
    return CheckpointRefused("NOT_REGULAR", path, said, _NEXT_STEP)
