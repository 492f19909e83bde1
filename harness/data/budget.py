"""How much memory a file may ask for: a small one that claims to hold gigabytes is refused before they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

FREE = 256 << 20
"""Bytes that anything may ask for."""
MAX_EXPANSION = 100
"""How many times its size on disk a file may ask for beyond that: photographs as JPEG expand about 20 times."""


def expect_proportion(path: Path | str, *, needed: int, stored: int) -> None:
    """Raise `InputError` when what is stored in so many bytes would need far more of them in memory."""
    if needed > max(FREE, MAX_EXPANSION * stored):
        raise InputError(
            f"{path}: {stored} bytes claim to hold {needed}, more than {MAX_EXPANSION} times as many; save the images "
            "anew, in the size that the model takes"
        )
