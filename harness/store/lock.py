"""One process at a time, for work that reads a file, decides, and writes it."""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.store.folder import user_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep others that ask for the same path waiting until the block ends, or this process does.

    The lock lies in the user's folder, so that nothing appears beside the file; where that cannot be written, there is
    none. Who waits is told so on standard error.
    """
    from filelock import FileLock, Timeout

    folder = user_folder("locks")
    lock = FileLock(folder / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{path}: another process works on it; waiting for it to end", file=sys.stderr)
        lock.acquire()
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()
