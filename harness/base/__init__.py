"""Basics for all rooms: errors, settings, atomic files, the user's folder, caches and validated records."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.base.arrays import ArrayStore
    from harness.base.cache import PredictionCache
    from harness.base.files import locked, user_folder, write_atomically

__all__ = ["ArrayStore", "PredictionCache", "locked", "user_folder", "write_atomically"]
_HOMES = {
    "ArrayStore": "arrays",
    "PredictionCache": "cache",
    "locked": "files",
    "user_folder": "files",
    "write_atomically": "files",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: errors and settings are needed without NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
