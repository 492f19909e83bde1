"""Update of a repository's gate: its copies of the shipped stress tests, and files of version 0.1."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from harness.base.errors import ConfigurationError
from harness.base.files import write_all_or_none
from harness.base.records import read_json, record
from harness.checks.golden import GOLDEN, LIST
from harness.checks.migration import from_schema_1
from harness.checks.shipped import shipped_tests

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.checks.shipped import ShippedTest

RECORD = "shipped.json"
"""The file beside the tests with their original hashes."""


@record
class _Record:
    """The version of the package that wrote the tests, and the SHA-256 of each by name."""

    version: str
    files: dict[str, str]


def known_tests(folder: Path) -> dict[str, str]:
    """Return the original SHA-256 of each test in the folder by name; none without a record.

    Raises `InputError` for a record that cannot be read.
    """
    path = folder / RECORD
    return read_json(_Record, path.read_text("utf-8"), where=str(path)).files if path.is_file() else {}


def record_of(tests: Iterable[ShippedTest], known: Mapping[str, str] = {}) -> str:
    """Return the text of the record for these tests of this version; `known` hashes do not change."""
    files = {**{test.name: _hash(test.text) for test in tests}, **known}
    return json.dumps({"version": version("stress-harness"), "files": files}, indent=2) + "\n"


@dataclass(frozen=True)
class Updated:
    """Tests of the repository: `lines` on each that differs, the number that still `differ`, and those `taken` over.

    `before` is the version of the package that wrote them, and `now` the installed one. `count` is the number of all.
    """

    lines: tuple[str, ...]
    differ: int
    taken: tuple[str, ...]
    count: int
    before: str
    now: str


def update(folder: Path, *, write: bool) -> Updated:
    """Return the differences between the shipped tests and those in the folder, and the files of version 0.1.

    A test that the user has edited counts only if the shipped one has changed too. With `write`, changes of unedited
    tests are taken over and no longer count, and files of version 0.1 are converted to schema 2. Raises `InputError`
    for a folder without a record and without such files.
    """
    path, migrated = folder / RECORD, _migrated(folder)
    try:
        known = read_json(_Record, path.read_text("utf-8"), where=str(path))
    except OSError as error:
        if not migrated:
            raise ConfigurationError(
                f"{path}: cannot be read ({error.strerror}); `stress-harness init` writes it together with the tests"
            ) from None
        known = _Record("0.1", {})
    shipped = {test.name: test for test in shipped_tests()}
    written: dict[str, ShippedTest] = {}
    lines: list[str] = []
    differing = 0
    for name, before in known.files.items():
        file, new = folder / name, shipped.get(name)
        here = file.read_text("utf-8") if file.exists() else None
        edited = here is not None and _hash(here) != before
        if new is None:
            lines.append(f"{file}: no longer ships with the package; what is there stays")
        elif here is None:
            lines.append(f"{file}: is gone; left out")
        elif edited and _hash(new.text) == before:
            lines.append(f"{file}: edited here, and as it was in the package")
        elif here != new.text:
            lines += [line.rstrip("\n") for line in _difference(here, new, file)]
            lines.append(f"{file}: {'changed in the package, and edited here' if edited else 'changed in the package'}")
            if write and not edited:
                written[name] = new
            else:
                differing += 1
    for file, _ in migrated.values():
        again = "" if file.name == LIST else "; after this, calibrate the thresholds of its panel again"
        lines.append(f"{file}: schema 1 of version 0.1{again}")
    taken = {folder / name: test.text.encode() for name, test in written.items()}
    if written:
        content = record_of(written.values(), {name: sha for name, sha in known.files.items() if name not in written})
        taken[path] = content.encode()
    if write:
        write_all_or_none({**taken, **{new: content for new, (_, content) in migrated.items()}})
    differing += 0 if write else len(migrated)
    names = (*written, *(new.relative_to(folder).as_posix() for new in migrated)) if write else ()
    return Updated(tuple(lines), differing, names, len(known.files), known.version, version("stress-harness"))


def _migrated(folder: Path) -> dict[Path, tuple[Path, bytes]]:
    """Return the new files for those of version 0.1: each path with the old file and the new content."""
    found: dict[Path, tuple[Path, bytes]] = {}
    for old in (*sorted(folder.glob("gates*.toml")), folder / GOLDEN / LIST):
        new = old.with_name(old.name.replace("gates", "checks"))
        text = old.read_text("utf-8") if old.is_file() else ""
        if "schema = 1" in text.splitlines() and (new == old or not new.exists()):
            found[new] = old, from_schema_1(text).encode()
    # The checks files declare the list of golden images by its hash.
    if listed := found.get(folder / GOLDEN / LIST):
        before, after = _hash(listed[0].read_text("utf-8")), _hash(listed[1].decode())
        found = {new: (old, content.replace(before.encode(), after.encode())) for new, (old, content) in found.items()}
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _difference(here: str, new: ShippedTest, file: Path) -> Iterable[str]:
    names = (str(file), f"{new.name} of the package")
    return difflib.unified_diff(here.splitlines(keepends=True), new.text.splitlines(keepends=True), *names)
