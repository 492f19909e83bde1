"""Edits of a checks file, which keep the comments, the order and the layout of everything else.

A file is cut before each table's header, and tomlkit edits one table at a time. It cannot edit the
whole file, because it moves rows that other tables separate next to each other, and the comments
above them to other rows.
"""

from __future__ import annotations

import io
import tomllib
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.base.errors import CalibrationError
from harness.base.features import families_with_rows
from harness.checks.tables import (
    HEAD,
    UNTIL_CALIBRATED,
    cut,
    entry,
    in_toml,
    is_row,
    name_of,
    parts_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tomlkit.items import Item, Table

    from harness.data.domain import Domain
    from harness.measures.panel.threshold import Calibrated

_OF_DOMAIN = ("augmentation", "border")
_NEW = ("id", "family", "metric", "direction")
"""Entries of a new row besides its threshold."""
_DIGITS = 12
"""Digits of a check's definition in the file, which identify the check of the calibration."""


def with_table(text: str, name: str, table: str, *, behind: str = "") -> str:
    """Return the text with a table in place of the one of this name and its sub-tables.

    An empty `table` removes them. A new table is put behind the table `behind` and its sub-tables,
    or else before the first table.
    """
    parts = list(parts_of(text))
    places = _places(parts, name)
    if places:
        return _with_table_replaced(parts, places, table)
    if not table:
        return text

    table = f"{table.rstrip()}\n"
    others = _places(parts, behind) if behind else []
    if not others:
        return _with_first_table(parts, table, apart=True)
    return _with_text_behind(parts, others[-1], table)


def with_entries(text: str, name: str, values: Mapping[str, object]) -> str:
    """Return the text with these entries in the table of this name; None removes an entry.

    A new entry stands behind the others of its table. Raises `LookupError` for a text without it.
    """
    parts = list(parts_of(text))
    places = [place for place, part in enumerate(parts) if name_of(part) == name]
    if not places:
        raise LookupError(name)

    def edit(table: Table) -> None:
        for key, value in values.items():
            if value is None:
                table.pop(key, None)
            else:
                _set(table, key, tomlkit.value(in_toml(value)))

    parts[places[0]] = _edited(parts[places[0]], name, edit)
    return "".join(parts)


def with_settings(text: str, values: Mapping[str, object]) -> str:
    """Return the text of a checks file with these entries in its table [gate].

    A new table is put before all others.
    """
    if not values:
        return text
    parts = list(parts_of(text))
    if not any(name_of(part) == "gate" for part in parts):
        # Nothing else may change, so that the hash of the file stays.
        text = _with_first_table(parts, f"{HEAD}\n", apart=False)
    return with_entries(text, "gate", {name: entry(name, value) for name, value in values.items()})


def with_domain(text: str, domain: Domain) -> str:
    """Return the text of a checks file whose [data] has this augmentation range and border.

    The table has no entry for the default range or border.

    Raises `InputError` for a table in another form.
    """
    declared = domain.declared()
    data = tomllib.loads(text).get("data", {})
    if {name: data[name] for name in _OF_DOMAIN if name in data} == declared:
        return text
    values = {name: declared.get(name) for name in _OF_DOMAIN}
    return with_data(with_table(text, "data.augmentation", ""), values)


def with_data(text: str, values: Mapping[str, object]) -> str:
    """Return the text of a checks file with these entries in its [data]; None removes an entry.

    Raises `InputError` for a table in another form.
    """
    data = {**tomllib.loads(text).get("data", {}), **values}
    expected = {name: value for name, value in data.items() if value is not None}
    try:
        edited = with_entries(text, "data", values)
        written = tomllib.loads(edited)["data"]
    except (LookupError, ValueError):
        written = None
    if written != expected:
        raise _refusal_of_data()
    return edited


def with_samples(text: str, lines: Sequence[str]) -> str:
    """Return the text of a checks file with these lines as its [data.samples], or without any.

    Raises `InputError` for data in another form than a table of their own.
    """
    if _places(list(parts_of(text)), "data.samples") == []:
        text = with_data(text, {"samples": None})
    edited = with_table(text, "data.samples", "\n".join(lines), behind="data")
    expected = tomllib.loads("\n".join(lines))
    if tomllib.loads(edited)["data"].get("samples") != expected.get("data", {}).get("samples"):
        raise _refusal_of_data()
    return edited


def _refusal_of_data() -> CalibrationError:
    return CalibrationError(
        "the checks file's [data] cannot be rewritten; write it as a table of its own, with a "
        "line for each entry"
    )


def with_rows(text: str, rows: Sequence[str]) -> str:
    """Return the text of a checks file with these tables [[check]] behind its last one."""
    if not rows:
        return text
    parts = list(parts_of(text))
    places = [place for place, part in enumerate(parts) if is_row(part)]
    last = places[-1] if places else len(parts) - 1
    return _with_text_behind(parts, last, "\n".join(f"{row.rstrip()}\n" for row in rows))


def uncalibrated(text: str) -> str:
    """Return the text of a checks file without samples and thresholds of a panel.

    Tables that name files beside the checks file go, too.
    """
    document = tomlkit.parse(with_samples(text, ()))
    for name in ("recipe", *families_with_rows()):
        document.pop(name, None)
    for check in document.get("check", ()):
        check.pop("panel", None)
    return tomlkit.dumps(document)


def with_thresholds(
    text: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str
) -> str:
    """Return the text of a checks file with the panel's thresholds in its checks.

    A calibrated check without a row gets one. A check that cannot use its threshold has the reason
    in `informational`. A check that was not calibrated loses the threshold of a former panel. A
    threshold by hand "until calibrated" is removed if the panel's counts.

    Args:
        text: The text of the checks file.
        calibrated: The thresholds of the panel.
        recipe: The new content of the table [recipe].
        date: The day of the calibration, which each threshold has, as YYYY-MM-DD.
    """
    parts = list(parts_of(with_table(text, "recipe", tomlkit.dumps({"recipe": recipe}))))
    items = {item.check.id: item for item in calibrated}
    present_ids: set[str] = set()

    def edit(row: Table) -> None:
        present_ids.add(row["id"])
        if row["id"] in items:
            _set_threshold(row, items[row["id"]], date)
        elif row.pop("panel", None) is not None:
            row.pop("informational", None)

    for place, part in enumerate(parts):
        if is_row(part):
            parts[place] = _edited(part, "check", edit)

    new_items = [item for check_id, item in items.items() if check_id not in present_ids]
    return with_rows("".join(parts), [_new_row(item, date) for item in new_items])


def _new_row(item: Calibrated, date: str) -> str:
    row = tomlkit.table()
    for name in _NEW:
        row[name] = getattr(item.check, name)
    _set_threshold(row, item, date)

    rows = tomlkit.aot()
    rows.append(row)
    document = tomlkit.document()
    document.append("check", rows)
    return tomlkit.dumps(document)


def _set_threshold(row: Table, item: Calibrated, date: str) -> None:
    """Set the panel's threshold in a row, and end one by hand that it replaces."""
    origin = {
        "definition": item.check.definition[:_DIGITS],
        "conversions": item.check.conversions,
        "sample": item.check.sample,
    }
    threshold = tomlkit.inline_table()
    threshold.update(item.written)
    threshold.update({name: value for name, value in origin.items() if value})
    threshold["date"] = date

    _set(row, "panel", threshold)
    if item.informational:
        _set(row, "informational", tomlkit.item(item.informational))
    else:
        row.pop("informational", None)
    if "hand" in row and ends(item, str(row["hand"].get("reason", ""))):
        del row["hand"]


def ends(item: Calibrated, reason: str) -> bool:
    """Return whether a panel's threshold replaces one by hand with this reason.

    It needs at least three reference models.
    """
    from harness.measures.panel.threshold import PROVISIONAL

    return (
        reason == UNTIL_CALIBRATED
        and not item.informational
        and item.reference_models >= PROVISIONAL
    )


# A text as a list of parts, see `harness.checks.tables.parts_of`.


def _places(parts: Sequence[str], name: str) -> list[int]:
    """Return the places of a table and of its subtables."""
    return [place for place, part in enumerate(parts) if f"{name_of(part)}.".startswith(f"{name}.")]


def _edited(part: str, name: str, edit: Callable[[Table], None]) -> str:
    """Return a part after an edit of its table of this name, or of each of its rows."""
    content, remarks = cut(part)
    document = tomlkit.parse(content)
    table: Any = document[name]
    if isinstance(table, list):
        for row in table:
            edit(row)
    else:
        edit(table)
    return tomlkit.dumps(document) + remarks


def _set(table: Table, name: str, value: Item) -> None:
    """Set an entry of a table; one that has this value keeps its spelling."""
    if table.unwrap().get(name) != value.unwrap():
        table[name] = value


def _with_table_replaced(parts: list[str], places: Sequence[int], table: str) -> str:
    """Return the whole with a table in place of these parts, or without any if it is empty."""
    first = places[0]
    for place in reversed(places):
        _, remarks = cut(parts[place])
        if table and place == first:
            parts[place] = f"{table.rstrip()}\n{remarks}"
        else:
            parts[place] = remarks
            parts[place - 1] = _without_empty_lines_below(parts[place - 1])
    return "".join(parts)


def _without_empty_lines_below(part: str) -> str:
    lines = io.StringIO(part).readlines()
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return "".join(lines)


def _with_text_behind(parts: list[str], place: int, text: str) -> str:
    """Return the whole with a text behind a part, between empty lines."""
    content, remarks = cut(parts[place])
    if not remarks and place + 1 < len(parts):
        remarks = "\n"
    gap = "\n" if content else ""
    parts[place] = f"{content}{gap}{text}{remarks}"
    return "".join(parts)


def _with_first_table(parts: Sequence[str], table: str, *, apart: bool) -> str:
    """Return the text with a new table before the first one and the comment above that.

    An empty line follows the table. If it stands `apart`, an empty line also precedes it.
    """
    content, remarks = cut(parts[0])
    lines = io.StringIO(remarks).readlines()
    place = len(lines)
    while content and place and lines[place - 1].strip():
        place -= 1
    before = content + "".join(lines[:place])
    gap = "\n" if apart and before.strip() and not before.endswith("\n\n") else ""
    return "".join([before, gap, table, "\n", *lines[place:], *parts[1:]])
