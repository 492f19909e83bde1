"""Checks of a first checks file as rows of TOML, and the packaged stress tests that measure them."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import PackageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence


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
        text, takes = file.read_text("utf-8"), set[tuple[str, str]]()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
                named = {item.arg: ast.literal_eval(item.value) for item in node.keywords if item.arg == "metric"}
                takes.add((ast.literal_eval(node.args[0]), named.get("metric", "")))
        tests.append(ShippedTest(file.name, text, frozenset(takes)))
    return tuple(tests)


_LONGEST = 80
"""Most characters for the name of a class or group; an id may hold two such names."""


@dataclass(frozen=True)
class StarterCheck:
    """A check of a first checks file: id, family, metric, and more entries, such as `class`."""

    id: str
    family: str
    metric: str
    more: Mapping[str, object]

    def as_toml(self) -> str:
        """Return the check's table."""
        entries = {"id": self.id, "family": self.family, "metric": self.metric, **self.more}
        return "\n".join(["[[check]]", *(f"{key} = {in_toml(value)}" for key, value in entries.items())])


def slugs(names: Sequence[str], *, kind: str = "class") -> dict[str, str]:
    """Return a short, unique name for ids by each full name; names with the same spelling get a number.

    A name without a usable character becomes its `kind` and number, for example `class-3`.
    """
    spelt = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST].rstrip("-") for name in names]
    found = [slug or f"{kind}-{at}" for at, slug in enumerate(spelt)]
    alone = {slug for slug, times in Counter(found).items() if times == 1}
    named, taken = {}, set(alone)
    for at, (name, slug) in enumerate(zip(names, found, strict=True)):
        named[name] = slug if slug in alone else untaken(slug, taken, start=at)
        taken.add(named[name])
    return named


def untaken(name: str, taken: Container[str], *, start: int) -> str:
    """Return the name with the first number from `start` on that makes it new."""
    return next(each for number in count(start) if (each := f"{name}-{number}") not in taken)


def with_ids_apart(checks: Iterable[StarterCheck]) -> tuple[StarterCheck, ...]:
    """Return the checks with unique ids: a repeated id gets a number."""
    taken: set[str] = set()
    apart = []
    for check in checks:
        named = check if check.id not in taken else replace(check, id=untaken(check.id, taken, start=2))
        taken.add(named.id)
        apart.append(named)
    return tuple(apart)


def in_toml(value: object) -> str:
    """Return text, a number, or a list or table of these in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items()) + " }"
    # TOML writes strings, numbers and lists as JSON does, but escapes unprintable characters differently.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
