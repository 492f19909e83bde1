"""Write calibrated thresholds into a checks file, leaving comments, order and hand thresholds as a person left them."""

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
"""Of a row's definition, which tell whether it is the one that its threshold was calibrated for."""


def with_thresholds(content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str) -> str:
    """Return the text of a checks file with the panel's thresholds in its rows.

    A calibrated row without an entry is appended. A row that cannot be a check says why in `informational`, and one
    that was not calibrated has no threshold of another panel's left. `recipe` replaces the file's `[recipe]`; `date` is
    kept in each threshold.
    """
    document = tomlkit.parse(_with_recipe(content, recipe))
    if "check" not in document:
        document.add("check", tomlkit.aot())
    rows: dict[str, Table] = {row["id"]: row for row in document["check"]}
    for unmeasured in set(rows) - {item.row.id for item in calibrated}:
        if rows[unmeasured].pop("panel", None) is not None:
            rows[unmeasured].pop("informational", None)
    for item in calibrated:
        if item.row.id not in rows:
            rows[item.row.id] = _new_row(item)
            document["check"].append(rows[item.row.id])
        row = rows[item.row.id]
        row.pop("panel", None)
        row.pop("informational", None)
        row["panel"] = _threshold(item, date)
        if item.informational:
            row["informational"] = item.informational
    # One empty line before each row, appended ones included.
    return re.sub(r"\n+\[\[check\]\]", "\n\n[[check]]", tomlkit.dumps(document))


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


def _threshold(item: Calibrated, date: str) -> InlineTable:
    digits = 1 if item.row.unit is Unit.IMAGES else 4
    threshold = tomlkit.inline_table()
    threshold.update(
        {
            "threshold": item.threshold,
            "mean": round(item.mean, digits),
            "std": round(item.std, digits + 1),
            "k": round(item.k, 2),
            "reference_models": item.reference_models,
            "minimum_detectable_drop": round(item.minimum_detectable_drop, digits),
            "n": item.row.n,
            **({"definition": item.row.definition[:_DIGITS]} if item.row.definition else {}),
            "date": date,
        }
    )
    return threshold
