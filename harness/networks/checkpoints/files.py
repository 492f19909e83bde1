"""Files of checkpoints: the bytes of a regular file up to a size limit, read once, or its refusal."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Literal

from harness.base import files
from harness.base.errors import InputError

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
COPY_AGAIN = "Copy the file again, or save it again."
MAX_BYTES = 2 << 30
"""Largest file; a ViT-B/16 with its average and Adam's states has 1.4 GB."""
_BOTH = "Copy both files into one folder, or export it again with its weights inside (external_data=False)."
_NEXT_STEP = "Name a checkpoint file (.safetensors, .pt or .pth)."


class CheckpointRefused(InputError):  # noqa: N818  The message begins with this word.
    """The refusal of a checkpoint; `code` is its reason in one word."""

    def __init__(self, code: Code, path: Path, fact: str, next_step: str) -> None:
        super().__init__(f"REFUSED[{code}] {path}: {fact}. Nothing was executed. {next_step}", code=code)


def shown(text: object, *, length: int = 120) -> str:
    """Return text from a file for a message: one line, printable, shortened to `length` characters."""
    line = str(text)
    line = line if len(line) <= length else f"{line[:length]}..."
    return line if line.isprintable() else ascii(line)[1:-1]


def require_file(path: Path) -> None:
    """Raise `CheckpointRefused` unless `path` is a regular file; for an early check before long work."""
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


def read_beside(path: Path, name: str) -> bytes:
    """Return the content of a regular file of this name in the folder of `path`, of at most `MAX_BYTES`.

    A link is refused, since it may lead anywhere. Raises `CheckpointRefused` about `path`.
    """
    other = path.parent / name
    try:
        if other.is_symlink():
            raise OSError(errno.ELOOP, "a link, not a file")
        files.require_regular(other)
        return files.read_regular(other, max_bytes=MAX_BYTES, follow=False)
    except OSError as error:
        fact = f"its weights are in {shown(name)!r} beside it, which is {error.strerror or error}"
        if isinstance(error, FileNotFoundError):
            fact = f"its weights are in {shown(name)!r} beside it, and there is no such file"
        code: Code = "TOO_LARGE" if error.errno == errno.EFBIG else "NOT_REGULAR"
        raise CheckpointRefused(code, path, fact, _BOTH) from None


def _refusal(path: Path, error: OSError, done: str) -> CheckpointRefused:
    fact = error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return CheckpointRefused("TOO_LARGE", path, fact, SAVE_WEIGHTS_ALONE)
    said = fact if fact == "not a regular file" else f"cannot be {done} ({fact})"
    return CheckpointRefused("NOT_REGULAR", path, said, _NEXT_STEP)
