"""The stress tests that ship: in the package, beside it in a checkout, and those of features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import FeatureError
from harness.base.features import features

if TYPE_CHECKING:
    from collections.abc import Iterable

_PACKAGE = Path(__file__).parents[1]
_IN_WHEEL, _IN_CHECKOUT = _PACKAGE / "stress_tests", _PACKAGE.parent / "stress_tests"


def _by_name() -> dict[str, Path]:
    """Return the files by name; raises `FeatureError` for a feature with a file of a taken name."""
    own = _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT
    files = {path.name: path.resolve() for path in sorted(own.glob("test_*.py"))}
    for feature in features():
        for path in feature.stress_tests:
            if path.name in files:
                raise FeatureError(
                    f"{feature}: its stress test {path.name} has the name of "
                    f"{files[path.name]}; rename it"
                )
            files[path.name] = path.resolve()
    return files


SHIPPED = _by_name()
"""The files by name."""


def shipped_tests(families: Iterable[str]) -> list[Path]:
    """Return the files that ship with a stress test of one of these families."""
    marks = tuple(f'@check("{family}"' for family in families)
    return [
        path for path in SHIPPED.values() if any(mark in path.read_text("utf-8") for mark in marks)
    ]
