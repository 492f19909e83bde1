"""The stress tests that ship: in the package or, in a checkout, beside it; those of a feature in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).parents[1]
_OWN = "stress_tests" if (_PACKAGE / "stress_tests").is_dir() else "../stress_tests"
_PLACES = (_OWN, "features/*/stress_tests")
SHIPPED = {
    path.name: path.resolve()
    for place in _PLACES
    for path in sorted(_PACKAGE.glob(f"{place}/test_*.py"))
}
"""The files by name."""


def shipped_tests(families: Iterable[str]) -> list[Path]:
    """Return the files that ship with a stress test of one of these families."""
    marks = tuple(f'@check("{family}"' for family in families)
    return [
        path for path in SHIPPED.values() if any(mark in path.read_text("utf-8") for mark in marks)
    ]
