"""Declared incumbent: a file beside the weights names the last accepted model and its hash.

The file is under version control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.base.errors import IncumbentError, printable
from harness.base.files import hash_of_file
from harness.base.records import read_record, record
from harness.checks.tables import in_toml, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1
NONE = "none"
"""The value of `file` if no model is accepted yet."""
_HEX_DIGITS = 64
"""Hexadecimal digits of a SHA-256."""
_HEAD = """\
# The incumbent: the last accepted model, which the gate compares candidates with.
# `stress-harness accept` writes this file. Commit it together with the weights.
"""


@record
class _Table:
    schema: int
    file: str
    sha256: str = ""
    date: str = ""
    reason: str = ""
    acceptance: dict[str, Any] | None = None


@dataclass(frozen=True)
class Declaration:
    """Incumbent that the file `path` declares.

    It is the file `weights` with this `sha256`, or none for a `reason`. `acceptance` records how an
    artifact was accepted, with its original; None for other models.
    """

    path: Path
    weights: Path | None
    sha256: str
    reason: str
    acceptance: Mapping[str, Any] | None = None

    @property
    def found(self) -> str | None:
        """Return the SHA-256 of the weights on disk; None without weights or without their file."""
        return None if self.weights is None else hash_of_file(self.weights)

    def expect_weights(self) -> None:
        """Raise `InputError` if the declared weights are missing or have another SHA-256."""
        if self.weights is None:
            return
        sha256 = self.found
        if sha256 != self.sha256:
            raise IncumbentError(self.refusal(sha256))

    def refusal(self, found: str | None) -> str:
        """Return the error message for weights with this SHA-256, None for a missing file."""
        assert self.weights is not None
        fact = "does not exist" if found is None else f"has the SHA-256 {found[:12]}…"
        fact = (
            f"{self.weights}: {fact}, expected {self.sha256[:12]}… of the incumbent that "
            f"{self.path} declares"
        )
        pending = pending_of(self.weights)
        if hash_of_file(pending) == self.sha256:
            return f"{fact}; an acceptance was interrupted, finish it: mv {pending} {self.weights}"
        return (
            f"{fact}. Bring the file back (git checkout, git lfs pull), accept a model again, "
            "or compare with none: --incumbent none"
        )


def declaration_path(weights: Path) -> Path:
    """Return the file that declares an incumbent with these weights."""
    return weights.with_suffix(".toml")


def pending_of(weights: Path) -> Path:
    """Return the path of declared weights until they replace the earlier ones."""
    return weights.with_name(f".{weights.name}.accepted")


def read_declaration(path: Path) -> Declaration | None:
    """Return the incumbent that a file declares, None without a file.

    Raises `InputError` for invalid content.
    """
    if not (path.exists() or path.is_symlink()):
        return None
    _, table = read_toml(path, error=IncumbentError, mended="restore it from the repository")
    declared = read_record(_Table, table, where=f"{path}")
    if declared.schema != SCHEMA:
        raise IncumbentError(
            f"{path}: schema is {declared.schema}, expected {SCHEMA}; "
            "accept a model with this version"
        )
    if declared.file == NONE:
        return _declared_none(declared, path)

    name = declared.file
    if "/" in name or "\\" in name or name in {"", ".", ".."}:
        raise IncumbentError(
            f"{path}: file is {printable(name)!r}, expected the name of a file in the same folder"
        )
    sha256 = declared.sha256
    if len(sha256) != _HEX_DIGITS or set(sha256) - set("0123456789abcdef"):
        raise IncumbentError(
            f"{path}: sha256 is {printable(sha256)!r}, expected 64 hexadecimal digits"
        )
    return Declaration(path, path.with_name(name), sha256, "", declared.acceptance)


def _declared_none(declared: _Table, path: Path) -> Declaration:
    """Return the declaration that no model is accepted yet, which needs a reason."""
    if declared.sha256 or not declared.reason.strip():
        raise IncumbentError(
            f"{path}: file is {NONE!r} with sha256 {declared.sha256!r} and reason "
            f"{printable(declared.reason)!r}, expected a reason and no sha256. "
            "Restore it from the repository, or write a reason"
        )
    return Declaration(path, None, "", declared.reason)


def declaration_of(
    weights: Path,
    *,
    sha256: str,
    date: str,
    acceptance: Mapping[str, bool | str | list[str]] | None = None,
) -> bytes:
    """Return the content of the file that declares these weights.

    An artifact has its `acceptance` in it.
    """
    lines = [
        f"schema = {SCHEMA}",
        f"file = {in_toml(weights.name)}",
        f'sha256 = "{sha256}"',
        f'date = "{date}"',
    ]
    if acceptance is not None:
        lines += ["", "[acceptance]"]
        lines += [f"{key} = {in_toml(value)}" for key, value in acceptance.items()]
    text = _HEAD + "\n".join(lines) + "\n"
    return text.encode()


def declaration_of_none() -> bytes:
    """Return the content of the file for a repository without an accepted model."""
    lines = [
        f"schema = {SCHEMA}",
        f'file = "{NONE}"',
        'reason = "no model is accepted yet"',
    ]
    text = _HEAD + "\n".join(lines) + "\n"
    return text.encode()
