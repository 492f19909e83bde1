"""Files of lines, to which one process at a time adds one, whole or not at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from harness.store.files import read_regular, require_regular
from harness.store.lock import alone

if TYPE_CHECKING:
    from pathlib import Path


def append_line(path: Path, line: str) -> None:
    """Add a line to the end of a file, which is made if it is not there, so that no other process writes meanwhile.

    What a killed process left unfinished there stays a line of its own. Raises `OSError` where the line cannot be
    written whole; the file is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path):
        if path.exists():
            require_regular(path)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(descriptor).st_size
            ended = not before or os.pread(descriptor, 1, before - 1) == b"\n"
            content = f"{'' if ended else chr(10)}{line}\n".encode()
            written = 0
            try:
                written = os.write(descriptor, content)
                os.fsync(descriptor)
            finally:
                if written != len(content):
                    os.ftruncate(descriptor, before)
            if written != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        finally:
            os.close(descriptor)


def numbered_lines(path: Path, *, max_bytes: int) -> list[tuple[int, bytes]]:
    """Return a file's lines that are not empty, with their numbers from 1; raises `OSError` as `read_regular` does."""
    content = read_regular(path, max_bytes=max_bytes)
    return [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
