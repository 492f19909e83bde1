"""The stress tests that ship: a wheel has them inside the package, a checkout beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "stress_tests", _PACKAGE.parent / "stress_tests")
SHIPPED = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
"""The folder of the stress tests that ship."""


def shipped_tests(families: Iterable[str]) -> list[Path]:
    """Return the files that ship with a stress test of one of these families."""
    marks = tuple(f'@check("{family}"' for family in families)
    return [
        path for path in sorted(SHIPPED.glob("test_*.py")) if any(mark in path.read_text("utf-8") for mark in marks)
    ]
