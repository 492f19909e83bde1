"""Rows of the checks file to copy from a report: of a check that is there, and of a confusion without one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.base.records import as_plain
from harness.checks.tables import in_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks.rows import Row

_KEPT = ("role", "pose", "class_name", "significance", "hand", "tolerance", "reason")


def copied(check: Row) -> str:
    """Return a check as a row with another id, without the thresholds of a panel."""
    plain = as_plain(check, brief=True)
    own = {name.removesuffix("_name"): plain[name] for name in _KEPT if name in plain}
    keys = {
        name: value for name, value in plain.get("keys", {}).items() if value is not None
    }  # None: left out.
    return as_row(
        {"id": f"{check.id}-copy", "family": check.family, "metric": check.metric} | own | keys
    )


def of_pair(one: str, two: str, numbers: tuple[int, int]) -> str:
    """Return a row on two classes that are predicted as each other; their numbers keep ids of any names apart."""
    name = re.sub(r"[^a-z0-9]+", "-", f"pair {one} {two} {numbers[0]} {numbers[1]}".lower())
    return as_row({"id": name, "family": "pairs", "metric": "pair_failures", "pair": [one, two]})


def as_row(entries: Mapping[str, object]) -> str:
    """Return a row of the checks file with these entries."""
    return "\n".join(
        ["[[check]]", *(f"{name} = {in_toml(value)}" for name, value in entries.items()), ""]
    )
