"""Write calibrated bounds into a gates file, leaving comments, order and hand bounds as a person left them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.measures import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomlkit.items import InlineTable, Table

    from harness.calibration.thresholds import Calibrated

_DIGITS = 12
"""Of a row's definition, which tell whether it is the one that its bound was calibrated for."""


def with_bounds(content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str) -> str:
    """Return the text of a gates file with the panel's bounds in its rows.

    A calibrated row without an entry is appended. A row that cannot be a gate says why in `not_gated`, and one that was
    not calibrated has no bound of another panel's left. `recipe` replaces the file's `[recipe]`; `date` is kept in each
    bound.
    """
    document = tomlkit.parse(_with_recipe(content, recipe))
    if "gate" not in document:
        document.add("gate", tomlkit.aot())
    rows: dict[str, Table] = {row["id"]: row for row in document["gate"]}
    for unmeasured in set(rows) - {item.row.id for item in calibrated}:
        if rows[unmeasured].pop("panel", None) is not None:
            rows[unmeasured].pop("not_gated", None)
    for item in calibrated:
        if item.row.id not in rows:
            rows[item.row.id] = _new_row(item)
            document["gate"].append(rows[item.row.id])
        row = rows[item.row.id]
        row.pop("panel", None)
        row.pop("not_gated", None)
        row["panel"] = _bound(item, date)
        if item.not_gated:
            row["not_gated"] = item.not_gated
    # One empty line before each row, appended ones included.
    return re.sub(r"\n+\[\[gate\]\]", "\n\n[[gate]]", tomlkit.dumps(document))


def _with_recipe(content: str, recipe: Mapping[str, Any]) -> str:
    """Return the text with another `[recipe]`; what stands between its last entry and the next table stays there."""
    tables = re.split(r"(?m)^(?=\[)", content)
    ours = [number for number, table in enumerate(tables) if re.match(r"\[recipe[\].]", table)]
    if not ours:
        ours, before = [1], tables[0].rstrip("\n") + "\n\n"
        tables = [before, "", *tables[1:]]
    *_, last = (tables[number] for number in ours)
    after = re.search(r"(?:^[ \t]*(?:#.*)?\n)*\Z", last, re.MULTILINE)
    kept = after[0] if after and last else "\n"
    tables[ours[0]] = tomlkit.dumps({"recipe": recipe}).rstrip("\n") + "\n" + kept
    return "".join(table for number, table in enumerate(tables) if number not in ours[1:])


def _new_row(item: Calibrated) -> Table:
    row = tomlkit.table()
    row.update({"id": item.row.id, "family": item.row.family, "metric": item.row.metric})
    row["direction"] = item.row.direction
    return row


def _bound(item: Calibrated, date: str) -> InlineTable:
    digits = 1 if item.row.unit is Unit.IMAGES else 4
    bound = tomlkit.inline_table()
    bound.update(
        {
            "bound": item.bound,
            "mean": round(item.mean, digits),
            "std": round(item.std, digits + 1),
            "k": round(item.k, 2),
            "retrains": item.retrains,
            "detects": round(item.detects, digits),
            "n": item.row.n,
            **({"row": item.row.definition[:_DIGITS]} if item.row.definition else {}),
            "date": date,
        }
    )
    return bound
