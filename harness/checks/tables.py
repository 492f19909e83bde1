"""Text of a checks file: read, hashed, and written for a new file.

`harness.checks.edits` edits a file that is there. The table [gate] describes the project. No
threshold depends on it, so the hash of a checks file leaves it out.
"""

from __future__ import annotations

import hashlib
import io
import json
import tomllib
from typing import TYPE_CHECKING, Any

from harness.base.errors import ConfigurationError
from harness.base.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from harness.base.errors import InputError

HEAD = "[gate]"
UNTIL_CALIBRATED = "until calibrated"
"""Reason of a threshold by hand that calibration replaces."""
MAX_BYTES = 16 << 20
"""Size from which on a file is refused; it is enough for 50,000 rows."""
OF_PROJECT = "stress_tests/checks.toml"
"""The place of a project's own checks file in its folder."""
_MAX_PARTS = 100
_PIXELS = ("size", "resize", "crop")
"""Settings that are texts, such as 64x96, and look like numbers most of the time."""


def read_toml(
    path: Path, *, error: type[InputError], mended: str, content: bytes | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a file and its table; a given `content` is parsed in its place.

    Raises `error`, which ends with the remedy `mended`, for a file that cannot be read.
    """
    try:
        if content is None:
            content = read_regular(path, max_bytes=MAX_BYTES)
        return content, parsed(content)
    except OSError as unreadable:
        raise error(f"{path}: cannot be read ({unreadable.strerror}); {mended}") from None
    except (ValueError, RecursionError) as invalid:  # Also for numbers of thousands of digits.
        raise error(f"{path}: not valid TOML: {invalid}; {mended}") from None


def hint_of_project(path: Path) -> str:
    """Return a hint at the gate of a folder above a missing checks file; empty without one."""
    if path.exists():
        return ""
    for folder in path.absolute().parents:
        if (folder / OF_PROJECT).is_file():
            return f"The gate of this project is in {folder}: run the command there"
    return ""


def parsed(content: bytes) -> dict[str, Any]:
    """Return the table that a file has as its content; raises `ValueError` unless it is TOML."""
    text = content.decode("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        key = line.partition("=")[0]
        if key.count(".") > _MAX_PARTS:  # Such a key can take minutes to parse.
            raise ValueError(f"line {number}: a dotted key of more than {_MAX_PARTS} parts")
    return tomllib.loads(text)


def parts_of(text: str) -> Iterator[str]:
    """Yield what stands before the first table of a text, and then each table with its header.

    The sub-tables of a row belong to its part. Joined, the parts are the text.
    """
    part = ""
    for line in io.StringIO(text):
        start = line.lstrip(" \t")
        is_of_row = start.startswith("[check.") and is_row(part)
        # Within an array or a text of several lines, such a line is no header.
        if start.startswith("[") and not is_of_row and _is_toml(part):
            yield part
            part = ""
        part += line
    yield part


def is_row(part: str) -> bool:
    """Return whether a part is a row of the checks file."""
    return part.lstrip().startswith("[[check]]")


def name_of(part: str) -> str:
    """Return the name in the header of a part, such as `data.samples`; empty without a header."""
    header = part.lstrip().partition("\n")[0].rstrip()
    if not (header.startswith("[") and _is_toml(header)):
        return ""
    names: list[str] = []
    content: Any = tomllib.loads(header)
    while content:
        ((name, value),) = content.items()
        names.append(name)
        content = value[0] if isinstance(value, list) else value
    return ".".join(names)


def cut(part: str) -> tuple[str, str]:
    """Return a part up to its last entry, and the empty lines and comments below.

    The latter are about the next table.
    """
    lines = io.StringIO(part).readlines()
    end = len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    content = "".join(lines[:end])
    if content and not content.endswith("\n"):
        content += "\n"
    return content, "".join(lines[end:])


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def split(text: str) -> tuple[str, str]:
    """Return the table [gate] of a checks file, empty without one, and the text without it."""
    if HEAD[:-1] not in text:
        return "", text
    before = table = ""
    for part in parts_of(text):
        if f"{name_of(part)}.".startswith("gate."):
            table += part
        elif table:
            break
        else:
            before += part
    if not table:
        return "", text

    after = text[len(before) + len(table) :]
    table, remarks = cut(table)
    after = remarks + after
    if not after.strip():
        return table, before.rstrip("\n") + "\n"
    return table, before + after.removeprefix("\n")


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a checks file without its table [gate]."""
    if b"[gate" in content:
        _, others = split(content.decode("utf-8", "surrogateescape"))
        content = others.encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()


def hash_of_checks(path: Path) -> str | None:
    """Return the SHA-256 of a checks file without its table [gate]; None if it cannot be read."""
    try:
        return hash_of(read_regular(path, max_bytes=MAX_BYTES))
    except OSError:
        return None


def read_table(path: Path) -> dict[str, Any]:
    """Return the table [gate] of a project's own checks file; empty without the file or the table.

    Raises `InputError` if it cannot be read.
    """
    try:
        content = read_regular(path, max_bytes=MAX_BYTES)
    except OSError:  # The gate has no file of its own; the reader of its checks says more.
        return {}
    try:
        table, _ = split(content.decode())
        return dict(tomllib.loads(table).get("gate", {}))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: its table {HEAD} cannot be read ({error})") from None


def in_toml(value: object) -> str:
    """Return text, a number, or a list or table of these in TOML."""
    if isinstance(value, dict):
        pairs = [f"{key} = {in_toml(entry)}" for key, entry in value.items()]
        return "{ " + ", ".join(pairs) + " }"
    # TOML has strings, numbers and lists as JSON has them, and other escapes.
    return "".join(map(_escaped, json.dumps(value, ensure_ascii=False)))


def _escaped(character: str) -> str:
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def entries(values: Mapping[str, object]) -> list[str]:
    """Return settings as lines of the table [gate]."""
    return [f"{name} = {in_toml(entry(name, value))}" for name, value in values.items()]


def entry(name: str, value: object) -> object:
    """Return the value of a setting as the table [gate] has it."""
    if name in _PIXELS and str(value).isdigit():
        return int(str(value))
    return value
