"""A check of a first checks file in TOML, and the names of classes and groups in ids."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

_LONGEST = 80
"""Most characters for the name of a class or group; an id may hold two such names."""


@dataclass(frozen=True)
class StarterCheck:
    """A check of a first checks file: id, family, metric, and more entries in TOML, such as `class = "a"`."""

    id: str
    family: str
    metric: str
    more: tuple[str, ...] = ()

    def as_toml(self) -> str:
        """Return the check's table."""
        entries = {"id": self.id, "family": self.family, "metric": self.metric}
        return "\n".join(("[[check]]", *(f'{key} = "{value}"' for key, value in entries.items()), *self.more))


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
    """Return text, a number or a list of these in TOML."""
    # TOML writes strings, numbers and lists as JSON does, but escapes unprintable characters differently.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
