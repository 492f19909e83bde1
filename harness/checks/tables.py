"""Text of a checks file, which a person edits: parsed and rewritten here alone; comments, order and the rest stay.

The table [gate] describes the project. Thresholds do not depend on it, so the hash of a checks file leaves it out.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import tomlkit

from harness.base.errors import CalibrationError, ConfigurationError
from harness.base.features import families_with_rows
from harness.base.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tomlkit.items import Table

    from harness.base.errors import InputError
    from harness.data.domain import Domain
    from harness.measures.panel.threshold import Calibrated

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
_TABLE = re.compile(
    r"(?ms)^\[gate[.\]].*?(?=^[ \t]*(?:#[^\n]*)?\n(?:[ \t]*(?:#[^\n]*)?\n)*(?:\[(?!gate[.\]])|\Z)|^\[(?!gate[.\]])|\Z)"
)
"""The table and its sub-tables, without the empty lines and comments before the next table."""
_DATA_TABLE = re.compile(r"(?ms)^(?P<head>\[data\][^\n]*\n)(?P<body>.*?)(?=^\[|\Z)")
_OF_DOMAIN = ("augmentation", "border")
_LINE_OF_DOMAIN = re.compile(rf"(?m)^(?:{'|'.join(_OF_DOMAIN)})\s*=.*\n?")
_REST = re.compile(r"(?:^[ \t]*(?:#.*)?\n)*\Z", re.MULTILINE)
"""The text between the last entry of a table and the next table: empty lines, and comments on the latter."""


def read_toml(
    path: Path, *, error: type[InputError], mended: str, content: bytes | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Return the content and the table of a file; raises `error`, with what to do, where that cannot be read."""
    try:
        content = read_regular(path, max_bytes=MAX_BYTES) if content is None else content
        return content, parsed(content)
    except OSError as unreadable:
        raise error(f"{path}: cannot be read ({unreadable.strerror}); {mended}") from None
    except (ValueError, RecursionError) as invalid:  # Also for numbers of thousands of digits.
        raise error(f"{path}: not valid TOML: {invalid}; {mended}") from None


def hint_of_project(path: Path) -> str:
    """Return a sentence on the gate in a folder above a missing checks file; empty if no folder has one."""
    if path.exists():
        return ""
    for folder in path.absolute().parents:
        if (folder / OF_PROJECT).is_file():
            return f"The gate of this project is in {folder}: run the command there"
    return ""


def parsed(content: bytes) -> dict[str, Any]:
    """Return the table in the content of a file; raises `ValueError` for anything but TOML in UTF-8."""
    text = content.decode("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if line.partition("=")[0].count(".") > _MAX_PARTS:  # These can take minutes to parse.
            raise ValueError(f"line {number}: a dotted key of more than {_MAX_PARTS} parts")
    return tomllib.loads(text)


def split(text: str) -> tuple[str, str]:
    """Return the table [gate] of a checks file, empty without one, and all else, as it was before it was added."""
    found = _TABLE.search(text)
    if found is None:
        return "", text
    before, after = text[: found.start()], text[found.end() :]
    return found[0], before + after.removeprefix("\n") if after.strip() else before.rstrip(
        "\n"
    ) + "\n"


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a checks file without its table [gate]."""
    if b"[gate" in content:
        content = split(content.decode("utf-8", "surrogateescape"))[1].encode(
            "utf-8", "surrogateescape"
        )
    return hashlib.sha256(content).hexdigest()


def hash_of_checks(path: Path) -> str | None:
    """Return the SHA-256 of a checks file without its table [gate]; None where it cannot be read."""
    try:
        return hash_of(read_regular(path, max_bytes=MAX_BYTES))
    except OSError:
        return None


def read_table(path: Path) -> dict[str, Any]:
    """Return the entries of the table [gate] in a project's own checks file; empty without the file or the table.

    Raises `InputError` where it cannot be read.
    """
    try:
        return dict(
            tomllib.loads(split(read_regular(path, max_bytes=MAX_BYTES).decode())[0]).get(
                "gate", {}
            )
        )
    except OSError:  # A gate without a file of its own; what reads its checks says more.
        return {}
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: its table {HEAD} cannot be read ({error})") from None


def in_toml(value: object) -> str:
    """Return text, a number, or a list or table of these in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {in_toml(each)}" for key, each in value.items()) + " }"
    # TOML writes strings, numbers and lists as JSON does, but escapes unprintable characters differently.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)


def with_table(text: str, name: str, table: str, *, behind: str = "") -> str:
    """Return the text with a table in place of the one of this name and its subtables; no `table` removes it.

    A new table is put behind the last one named `behind` or below it, or else before the first table.
    """
    parts = re.split(r"(?m)^(?=\[)", text)

    def places(wanted: str) -> list[int]:
        return [
            number
            for number, part in enumerate(parts)
            if re.match(rf"\[{re.escape(wanted)}[\].]", part)
        ]

    def rest(part: str) -> str:
        found = _REST.search(part)
        return found[0] if found else ""

    made = f"{table.rstrip()}\n"
    if ours := places(name):
        behind_it = rest(parts[ours[-1]])
        if not table:
            parts[ours[0] - 1] = f"{parts[ours[0] - 1].rstrip()}\n"
        parts[ours[0]] = made + (behind_it or "\n") if table else behind_it
        return "".join(part for number, part in enumerate(parts) if number not in ours[1:])
    if not table:
        return text
    if not (others := behind and places(behind)):
        return f"{parts[0].rstrip()}\n\n{made}\n{''.join(parts[1:])}"
    last = parts[others[-1]]
    parts[others[-1]] = f"{last.removesuffix(rest(last)).rstrip()}\n\n{made}{rest(last)}"
    return "".join(parts)


def with_settings(text: str, values: Mapping[str, object]) -> str:
    """Return the text of a checks file with these entries in its table [gate], a new one before all others."""
    if not values:
        return text
    lines = "".join(f"{line}\n" for line in entries(values))
    if table := split(text)[0]:
        return text.replace(table, f"{table.rstrip(chr(10))}\n{lines}", 1)
    start = found.start() if (found := re.search(r"(?m)^\[", text)) else len(text)
    return f"{text[:start]}{HEAD}\n{lines}\n{text[start:]}"  # All else stays, and so does its hash.


def entries(values: Mapping[str, object]) -> list[str]:
    """Return settings as lines of the table [gate]."""
    return [
        f"{name} = {value if name in _PIXELS and str(value).isdigit() else in_toml(value)}"
        for name, value in values.items()
    ]


def with_domain(content: str, domain: Domain) -> str:
    """Return the text of a checks file whose [data] names this augmentation range and border, or none by default.

    All else does not change. Raises `InputError` for a table in another form.
    """
    declared = domain.declared()

    def declared_in(text: str) -> dict[str, Any] | None:
        try:
            data = tomllib.loads(text)["data"]
            return {name: data[name] for name in _OF_DOMAIN if name in data}
        except (ValueError, LookupError, TypeError):
            return None

    if declared_in(content) == declared:
        return content
    text = with_table(content, "data.augmentation", "")
    lines = "".join(f"{line}\n" for line in entries(declared))
    made = _DATA_TABLE.sub(
        lambda table: table["head"] + lines + _LINE_OF_DOMAIN.sub("", table["body"]), text, count=1
    )
    if declared_in(made) != declared:
        raise CalibrationError(
            "the checks file's [data] cannot be rewritten; write it as a table of its own with a line for each entry"
        )
    return made


def with_samples(content: str, lines: Sequence[str]) -> str:
    """Return the text of a checks file with these lines as its `[data.samples]`; no lines for no samples.

    All else, including comments, does not change. Raises `InputError` for samples in another form.
    """

    def samples_in(text: str) -> object:
        try:
            return tomllib.loads(text)["data"].get("samples", {})
        except (ValueError, LookupError, AttributeError):
            return None

    made = with_table(content, "data.samples", "\n".join(lines), behind="data")
    one = len(re.findall(r"(?m)^\[data\]", content)) == 1
    if not one or samples_in(made) != (samples_in("\n".join(lines)) if lines else {}):
        raise CalibrationError(
            "the checks file's [data.samples] cannot be rewritten; write it as a table of its own"
        )
    return made


def uncalibrated(content: str) -> str:
    """Return the text of a checks file without samples, thresholds of a panel, and what names files beside it."""
    document = tomlkit.parse(with_samples(content, ()))
    for name in ("recipe", *families_with_rows()):
        document.pop(name, None)
    for check in document.get("check", ()):
        check.pop("panel", None)
    return tomlkit.dumps(document)


_NEW = ("id", "family", "metric", "direction")
"""Entries of a new row besides its threshold."""
_DIGITS = 12
"""Digits of a check's definition in the file, which identify the check of the calibration."""


def with_thresholds(
    content: str, calibrated: Sequence[Calibrated], *, recipe: Mapping[str, Any], date: str
) -> str:
    """Return the text of a checks file with the panel's thresholds in its checks.

    A calibrated check without an entry is appended. A check that cannot use its threshold has the reason in
    `informational`. A check that was not calibrated loses the threshold of a former panel. A threshold by hand "until
    calibrated" is removed if the panel's counts. `recipe` replaces the file's `[recipe]`; each threshold has the
    `date`.
    """
    document = tomlkit.parse(with_table(content, "recipe", tomlkit.dumps({"recipe": recipe})))
    if "check" not in document:
        document.add("check", tomlkit.aot())
    checks: dict[str, Table] = {check["id"]: check for check in document["check"]}
    for unmeasured in set(checks) - {item.check.id for item in calibrated}:
        if checks[unmeasured].pop("panel", None) is not None:
            checks[unmeasured].pop("informational", None)
    for item in calibrated:
        if item.check.id not in checks:
            checks[item.check.id] = tomlkit.table()
            checks[item.check.id].update({name: getattr(item.check, name) for name in _NEW})
            document["check"].append(checks[item.check.id])
        check, threshold = checks[item.check.id], tomlkit.inline_table()
        check.pop("panel", None)
        check.pop("informational", None)
        named = {
            "definition": item.check.definition[:_DIGITS],
            "conversions": item.check.conversions,
        }
        named |= {"sample": item.check.sample}
        threshold.update(
            {**item.written, **{name: each for name, each in named.items() if each}, "date": date}
        )
        check["panel"] = threshold
        if "hand" in check and ends(item, str(check["hand"].get("reason", ""))):
            del check["hand"]
        if item.informational:
            check["informational"] = item.informational
    # One empty line before each check, appended ones included.
    return re.sub(r"\n+\[\[check\]\]", "\n\n[[check]]", tomlkit.dumps(document))


def ends(item: Calibrated, reason: str) -> bool:
    """Return whether a panel's threshold replaces one by hand with this reason; it needs at least three models."""
    from harness.measures.panel.threshold import PROVISIONAL

    return (
        reason == UNTIL_CALIBRATED
        and not item.informational
        and item.reference_models >= PROVISIONAL
    )
