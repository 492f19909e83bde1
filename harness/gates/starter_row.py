"""A row of a first gates file, as TOML has it, and how its id names a class or a group."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class StarterRow:
    """A row of a first gates file: id, family and metric, and more entries as TOML has them, such as `class = "a"`."""

    id: str
    family: str
    metric: str
    more: tuple[str, ...] = ()

    def as_toml(self) -> str:
        """Return the row's table."""
        entries = {"id": self.id, "family": self.family, "metric": self.metric}
        return "\n".join(("[[gate]]", *(f'{key} = "{value}"' for key, value in entries.items()), *self.more))


def slugs(names: Sequence[str], *, kind: str = "class") -> dict[str, str]:
    """Return how ids name each of these; of names that come to one spelling, with a number.

    One of which nothing is left is called by its `kind` and number.
    """
    found = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or f"{kind}-{at}" for at, name in enumerate(names)]
    return {
        name: f"{slug}-{at}" if found.count(slug) > 1 else slug
        for at, (name, slug) in enumerate(zip(names, found, strict=True))
    }


def in_toml(value: object) -> str:
    """Return text, a number or a list of these as TOML has it."""
    # JSON's strings, numbers and lists of these are TOML's, too, but for how what cannot be printed is escaped.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
