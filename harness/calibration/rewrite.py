"""Write calibrated bounds into a gates file, leaving comments, order and hand bounds as a person left them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tomlkit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tomlkit.items import InlineTable, Table

    from harness.calibration.bounds import Calibrated


def with_bounds(content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str) -> str:
    """Return the text of a gates file with the panel's bounds in its rows.

    A calibrated row without an entry is appended. A row that cannot be a gate says why in `not_gated`. `recipe`
    replaces the file's `[recipe]`; `date` is kept in each bound.
    """
    document = tomlkit.parse(content)
    recipe_table = tomlkit.table()
    recipe_table.update(recipe)
    if "recipe" in document:
        document["recipe"] = recipe_table
    else:
        document.add("recipe", recipe_table)
    if "gate" not in document:
        document.add("gate", tomlkit.aot())
    rows: dict[str, Table] = {row["id"]: row for row in document["gate"]}
    for item in calibrated:
        if item.row.id not in rows:
            rows[item.row.id] = _new_row(item)
            document["gate"].append(rows[item.row.id])
        row = rows[item.row.id]
        row.pop("not_gated", None)
        if item.not_gated:
            row["not_gated"] = item.not_gated
        row["panel"] = _bound(item, date)
    return tomlkit.dumps(document)


def _new_row(item: Calibrated) -> Table:
    row = tomlkit.table()
    row.update({"id": item.row.id, "family": item.row.family, "metric": item.row.metric})
    row["direction"] = item.row.direction
    return row


def _bound(item: Calibrated, date: str) -> InlineTable:
    digits = 1 if item.row.unit == "images" else 4
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
            "date": date,
        }
    )
    return bound
