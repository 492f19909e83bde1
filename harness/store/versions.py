"""Which releases of libraries are installed: part of the key of whatever they decide."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def installed(packages: Iterable[str]) -> list[str]:
    """Return each of these packages that is installed, with its version: `numpy 2.4.0`."""
    found = []
    for name in packages:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # Such as a module of the user's.
            continue
    return found
