"""The packaged stress tests, and the checks that each of them measures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import PackageError

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class ShippedTest:
    """A file of stress tests: its name, its text, and the arguments of each `@check(family, metric=...)` in it.

    `takes` holds pairs of family and metric; an empty metric stands for all.
    """

    name: str
    text: str
    takes: frozenset[tuple[str, str]]

    def takes_check(self, family: str, metric: str) -> bool:
        """Return whether one of its tests runs for checks of this family and metric."""
        return not self.takes.isdisjoint({(family, metric), (family, "")})


def shipped_tests() -> tuple[ShippedTest, ...]:
    """Return the stress tests that ship, by name; raises `InputError` if the package lacks them."""
    # A wheel holds them inside the package, a checkout beside it.
    places = (_PACKAGE / "stress_tests", _PACKAGE.parent / "stress_tests")
    files = next((found for place in places if (found := sorted(place.glob("test_*.py")))), [])
    if not files:
        raise PackageError(f"{_PACKAGE}: this copy of the package lacks its stress tests; install it again")
    tests = []
    for file in files:
        text = file.read_text("utf-8")
        marks = re.findall(r'(?m)^@check\("([\w-]+)"(.*)\)$', text)
        takes = frozenset((family, "".join(re.findall(r'metric="(\w+)"', more))) for family, more in marks)
        tests.append(ShippedTest(file.name, text, takes))
    return tuple(tests)
