"""Tables of a checks file that a person edits, among them [gate], which describes the project.

Thresholds do not depend on [gate], so the hash of a checks file leaves it out.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Any

from harness.base.errors import ConfigurationError
from harness.base.files import read_regular
from harness.checks.starter_check import in_toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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


HEAD = "[gate]"
_MAX_BYTES = 16 << 20
_PIXELS = ("size", "resize", "crop")
"""Settings that are texts, such as 64x96, and look like numbers most of the time."""
_TABLE = re.compile(
    r"(?ms)^\[gate[.\]].*?(?=^[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*(?:\[(?!gate[.\]])|\Z)|^\[(?!gate[.\]])|\Z)"
)
"""The table and its sub-tables, without the empty lines and comments before the next table."""


def split(text: str) -> tuple[str, str]:
    """Return the table of a checks file, empty without one, and all else, as it was before the table was added."""
    found = _TABLE.search(text)
    if found is None:
        return "", text
    before, after = text[: found.start()], text[found.end() :]
    return found[0], before + after.removeprefix("\n") if after.strip() else before.rstrip("\n") + "\n"


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a checks file without its table."""
    if b"[gate" in content:
        content = split(content.decode("utf-8", "surrogateescape"))[1].encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()


def hash_of_checks(path: Path) -> str | None:
    """Return the SHA-256 of a checks file without its table; None where it cannot be read."""
    try:
        return hash_of(read_regular(path, max_bytes=_MAX_BYTES))
    except OSError:
        return None


def read_table(path: Path) -> dict[str, Any]:
    """Return the entries of the table in a project's own checks file; empty without the file or the table.

    Raises `InputError` where it cannot be read.
    """
    try:
        text = split(read_regular(path, max_bytes=_MAX_BYTES).decode())[0]
        return dict(tomllib.loads(text).get("gate", {}))
    except OSError:  # A gate without a file of its own; what reads its checks says more.
        return {}
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: its table {HEAD} cannot be read ({error})") from None


def with_settings(text: str, values: Mapping[str, object]) -> str:
    """Return the text of a checks file with these entries at the end of its table, a new one before all others."""
    if not values:
        return text
    lines = "".join(f"{line}\n" for line in entries(values))
    table, _ = split(text)
    if table:
        return text.replace(table, f"{table.rstrip(chr(10))}\n{lines}", 1)
    at = re.search(r"(?m)^\[", text)
    start = len(text) if at is None else at.start()
    return f"{text[:start]}{HEAD}\n{lines}\n{text[start:]}"


def entries(values: Mapping[str, object]) -> list[str]:
    """Return settings as lines of the table."""
    return [
        f"{name} = {value if name in _PIXELS and str(value).isdigit() else in_toml(value)}"
        for name, value in values.items()
    ]
