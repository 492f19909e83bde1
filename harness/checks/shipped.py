"""The stress tests that ship with the package, and the families and metrics that each of them tests."""

from __future__ import annotations

import ast
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
    texts = {file.name: file.read_text("utf-8") for file in files}
    return tuple(ShippedTest(name, text, _taken(text)) for name, text in texts.items())


def _taken(text: str) -> frozenset[tuple[str, str]]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            named = {item.arg: ast.literal_eval(item.value) for item in node.keywords if item.arg == "metric"}
            found.add((ast.literal_eval(node.args[0]), named.get("metric", "")))
    return frozenset(found)
