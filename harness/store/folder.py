"""The user's folder, in which what costs time to make or to fetch is kept between runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def user_folder(name: str) -> Path:
    """Return the folder of this name in the user's cache directory; it need not be there yet."""
    from platformdirs import user_cache_path

    return user_cache_path("stress-harness") / name
