"""Tables in the text of a TOML file that a person edits: one is replaced or removed, and all other text stays."""

from __future__ import annotations

import re

_REST = re.compile(r"(?:^[ \t]*(?:#.*)?\n)*\Z", re.MULTILINE)
"""The text between the last entry of a table and the next table: empty lines, and comments on the latter."""


def with_table(text: str, name: str, table: str, *, behind: str = "") -> str:
    """Return the text with a table in place of the one of this name and its subtables; no `table` removes it.

    A new table is put behind the last one named `behind` or below it, or else before the first table.
    """
    parts = re.split(r"(?m)^(?=\[)", text)

    def at(wanted: str) -> list[int]:
        return [number for number, part in enumerate(parts) if re.match(rf"\[{re.escape(wanted)}[\].]", part)]

    made = f"{table.rstrip()}\n"
    if ours := at(name):
        rest = _rest(parts[ours[-1]])
        if not table:
            parts[ours[0] - 1] = f"{parts[ours[0] - 1].rstrip()}\n"
        parts[ours[0]] = made + (rest or "\n") if table else rest
        return "".join(part for number, part in enumerate(parts) if number not in ours[1:])
    if not table:
        return text
    if not (others := behind and at(behind)):
        return f"{parts[0].rstrip()}\n\n{made}\n{''.join(parts[1:])}"
    last = parts[others[-1]]
    rest = _rest(last)
    parts[others[-1]] = f"{last.removesuffix(rest).rstrip()}\n\n{made}{rest}"
    return "".join(parts)


def _rest(part: str) -> str:
    found = _REST.search(part)
    return found[0] if found else ""
