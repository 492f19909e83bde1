"""Rows of the checks file to copy from a report: of a check, and of a confusion without one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.base.records import as_plain
from harness.checks.tables import in_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks.rows import Row

_ENTRIES = ("role", "pose", "class_name", "significance", "hand", "tolerance", "reason")
"""The entries of a row that its copy has, besides its keys."""


def copied(check: Row) -> str:
    """Return a check as a row with another id, without the thresholds of a panel."""
    plain = as_plain(check, brief=True)
    entries = {"id": f"{check.id}-copy", "family": check.family, "metric": check.metric}
    for name in _ENTRIES:
        if name in plain:
            entries[name.removesuffix("_name")] = plain[name]
    # A key that the row leaves out has the value None.
    keys = {name: value for name, value in plain.get("keys", {}).items() if value is not None}
    return as_row(entries | keys)


def of_pair(first: str, second: str, numbers: tuple[int, int]) -> str:
    """Return a row on two classes that are predicted as each other.

    Their numbers are part of the id, so that classes with similar names have different ids.
    """
    words = f"pair {first} {second} {numbers[0]} {numbers[1]}".lower()
    check_id = re.sub(r"[^a-z0-9]+", "-", words)
    pair = {"family": "pairs", "metric": "pair_failures", "pair": [first, second]}
    return as_row({"id": check_id, **pair})


def as_row(entries: Mapping[str, object]) -> str:
    """Return a row of the checks file with these entries."""
    lines = [f"{name} = {in_toml(value)}" for name, value in entries.items()]
    return "\n".join(["[[check]]", *lines, ""])
