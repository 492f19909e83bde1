"""What became of the shipped stress tests since they were written into a repository."""

from __future__ import annotations

import difflib
import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING

from harness.cli.status import NEGATIVE, OK
from harness.errors import InputError
from harness.gates.shipped import shipped_tests
from harness.store.files import write_all_or_none
from harness.store.records import read_json, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.gates.shipped import ShippedTest

RECORD = "shipped.json"
"""The file beside the tests that remembers them as they were written."""


@record
class _Record:
    """The version of the package that wrote the tests, and the SHA-256 of each, by name."""

    version: str
    files: dict[str, str]


def known_tests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each test that was written into the folder, as it was then, by name; none without a record.

    Raises `InputError` for a record that cannot be read.
    """
    path = folder / RECORD
    return read_json(_Record, path.read_text("utf-8"), where=str(path)).files if path.is_file() else {}


def record_of(tests: Iterable[ShippedTest], known: Mapping[str, str] = {}) -> str:
    """Return the text of the record of these tests, as this version ships them; those `known` stay as they were."""
    files = {**{test.name: _hash(test.text) for test in tests}, **known}
    return json.dumps({"version": version("stress-harness"), "files": files}, indent=2) + "\n"


def update(folder: Path, *, write: bool) -> int:
    """Print how the shipped tests differ from those in the folder; returns 1 if some do, 0 otherwise.

    A test that the user has edited counts where the shipped one has changed, too. With `write`, what changed in tests
    that were not edited is taken over, and no longer counts. Raises `InputError` for a folder without a record.
    """
    path = folder / RECORD
    try:
        known = read_json(_Record, path.read_text("utf-8"), where=str(path))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); `python -m harness init` writes it together with the tests"
        ) from None
    shipped = {test.name: test for test in shipped_tests()}
    written: dict[str, ShippedTest] = {}
    differing = 0
    for name, before in known.files.items():
        file, new = folder / name, shipped.get(name)
        here = file.read_text("utf-8") if file.exists() else None
        edited = here is not None and _hash(here) != before
        if new is None:
            print(f"{file}: no longer ships with the package; what is there stays")
        elif here is None:
            print(f"{file}: is gone; left out")
        elif edited and _hash(new.text) == before:
            print(f"{file}: edited here, and as it was in the package")
        elif here != new.text:
            print("".join(_difference(here, new, file)), end="")
            print(f"{file}: {'changed in the package, and edited here' if edited else 'changed in the package'}")
            if write and not edited:
                written[name] = new
            else:
                differing += 1
    if written:
        hashes = {**known.files, **{name: _hash(test.text) for name, test in written.items()}}
        content = json.dumps({"version": version("stress-harness"), "files": hashes}, indent=2) + "\n"
        write_all_or_none(
            {**{folder / name: test.text.encode() for name, test in written.items()}, path: content.encode()}
        )
    print(
        f"{len(known.files)} tests, written by version {known.version}: {differing} differ from version "
        f"{version('stress-harness')}" + (f", {len(written)} taken over" if write else "")
    )
    if differing and not write:
        print("take over those that were not edited with --write; merge the others by hand")
    return NEGATIVE if differing else OK


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _difference(here: str, new: ShippedTest, file: Path) -> Iterable[str]:
    names = (str(file), f"{new.name} of the package")
    return difflib.unified_diff(here.splitlines(keepends=True), new.text.splitlines(keepends=True), *names)
