"""Which code computes predictions: what the cache on disk keeps for one version is nothing to another."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from harness.store.cache import installed

_ROOMS = ("data", "perturb", "networks", "inference")
"""Where pixels, perturbations and predictions are computed."""
LIBRARIES = ("numpy", "opencv-python", "opencv-python-headless", "scipy", "torch")
"""What they compute with: another release may round otherwise."""


@cache
def computing_code() -> str:
    """Return a hash of the source of all rooms that decide what is kept, and of the libraries' versions.

    Made once by each process.
    """
    return hashlib.sha256(repr((hash_of_code(Path(__file__).parents[1]), installed(LIBRARIES))).encode()).hexdigest()


def hash_of_code(package: Path) -> str:
    """Return a hash of the names and contents of the Python files in these rooms of a package.

    A version number is not enough: a checkout that is worked on keeps its number.
    """
    digest = hashlib.sha256()
    for path in sorted(path for room in _ROOMS for path in (package / room).rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()
