"""The gates file: every threshold of the stress tests, in TOML that a person can read and edit."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from harness.errors import InputError
from harness.gates.golden import GOLDEN, GoldenDeclaration, GoldenImage, read_golden, rows_of
from harness.gates.ids import LONGEST, is_id
from harness.gates.rows import COMMON_KEYS, Gate, GatesError
from harness.measures import METRICS
from harness.perturb.poses import PROTOCOL
from harness.store.files import read_regular
from harness.store.records import read_record, record

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
MAX_BYTES = 16 << 20
"""Larger files are refused: this is enough for 50,000 rows."""
_MAX_PARTS = 100


@record
class DataFingerprint:
    """The images that a gates file was made for; `classes` names their classes anew, for data that only number them.

    With a `sample`, the bounds are for a stratified sample of so many of the `n` images, the quick profile's.
    `samples` says so of single families, in any profile, more of them than the sample or fewer.
    """

    name: str
    split: str
    sha256: str
    n: int
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    sample: int | None = None
    samples: dict[str, int] = field(default_factory=dict)
    groups_sha256: str | None = None
    """Of the groups of images that rows of family `slice` are about, see `harness.data.groups`."""

    def measured_by(self, family: str) -> int:
        """Return how many images the bounds of a family were made for."""
        return self.samples.get(family, self.measured)

    @property
    def measured(self) -> int:
        """Return how many images the bounds were made for."""
        return self.n if self.sample is None else self.sample


@record
class _Head:
    """What stands in a gates file."""

    schema: int
    protocol: int
    data: DataFingerprint
    gate: tuple[()] = ()
    """The rows, which are read one by one."""
    recipe: dict[str, Any] = field(default_factory=dict)
    budget: dict[str, Annotated[float, Field(gt=0)]] = field(default_factory=dict)
    golden: GoldenDeclaration | None = None


@dataclass(frozen=True)
class GatesFile:
    """A gates file as read.

    `recipe` says whose healthy retrains the bounds come from; `budgets` gives, by metric or family, the largest loss
    that a gate may fail to notice and still be a gate. The rows of the `golden` set, which lies beside the file, are
    the last of the `gates`.
    """

    path: Path
    sha256: str
    data: DataFingerprint
    recipe: dict[str, Any]
    budgets: dict[str, float]
    gates: tuple[Gate, ...]
    golden: tuple[GoldenImage, ...] = ()

    def family(self, name: str) -> tuple[Gate, ...]:
        """Return the rows of a family, in the file's order."""
        return tuple(gate for gate in self.gates if gate.family == name)

    @property
    def written(self) -> tuple[Gate, ...]:
        """Return the rows that stand in the file; those of the golden set are made of its list."""
        return tuple(gate for gate in self.gates if gate.family != GOLDEN)

    @property
    def knowledge(self) -> Path | None:
        """Return the file of what the panel knows, which the recipe names as seen from this file; None for none."""
        named = self.recipe.get("knowledge")
        return None if named is None else self.path.parent / str(named)

    def expect_knowledge(self, path: Path, sha256: str) -> None:
        """Raise `InputError` where a file with this hash is not what the panel knew when the bounds were made."""
        made_with = self.recipe.get("knowledge_sha256")
        if made_with != sha256 and (made_with or self.knowledge):
            raise InputError(
                f"{path}: its SHA-256 is {sha256[:12]}…, the bounds of {self.path} were made with "
                f"{str(made_with)[:12]}…; bring back that file, or calibrate anew"
            )

    def expect_rows_as_calibrated(self) -> None:
        """Raise `GatesError` for a row that was changed after its bound was calibrated, such as in pose or confidence.

        A bound of before would be held against another measurement.
        """
        for gate in self.gates:
            if gate.panel is not None and not gate.definition.startswith(gate.panel.row):
                raise GatesError(
                    f"{self.path}: gate {gate.id!r} has changed since its bound was calibrated; take the change back, "
                    f"calibrate its family again (--family {gate.family}), or remove `panel` from the row"
                )


def read_gates(path: Path) -> GatesFile:
    """Read and check a gates file; raises `GatesError` naming file and row for whatever is wrong with it.

    Keys that only the rows of some tests have are checked when the tests that declare them are collected, see
    `harness.gates.keys`.
    """
    try:
        content = read_regular(path, max_bytes=MAX_BYTES)
        table = tomllib.loads(_plain_keys(content.decode("utf-8")))
    except OSError as error:
        raise GatesError(f"{path}: cannot be read ({error.strerror}); name a gates file with --gates") from None
    except (ValueError, RecursionError) as error:  # Also text that is not UTF-8, and numbers of thousands of digits.
        raise GatesError(f"{path}: not valid TOML: {error}") from None
    rows, table["gate"] = table.get("gate", []), []
    if not isinstance(rows, list):
        raise GatesError(f"{path}: gate must be an array of tables, written [[gate]]")
    head = read_record(_Head, table, where=f"{path}", error=GatesError)
    for key, found, expected in (("schema", head.schema, SCHEMA), ("protocol", head.protocol, PROTOCOL)):
        if found != expected:
            raise GatesError(f"{path}: {key} is {found}, this version works with {key} {expected}")
    data = head.data
    if not 1 <= data.measured <= data.n:
        raise GatesError(f"{path}: [data] sample is {data.sample}, expected a number from 1 to n, {data.n}")
    families = {row.get("family") for row in rows if isinstance(row, dict)}
    for name, size in data.samples.items():
        if not 1 <= size <= data.n:
            limits = f"from 1 to {data.n}"
            raise GatesError(f"{path}: [data.samples] {name} is {size}, expected a number of images {limits}")
        if name not in families:
            raise GatesError(f"{path}: [data.samples] {name}: there is no row of this family; correct or remove it")
    if len(set(data.classes)) != len(data.classes):
        raise GatesError(f"{path}: [data] classes names a class twice: {', '.join(data.classes)}")
    gates = tuple(_gate(row, f"{path}: gate {number}", data) for number, row in enumerate(rows, start=1))
    golden = read_golden(path, head.golden)
    gates += rows_of(golden)
    first_row: dict[str, int] = {}
    for number, gate in enumerate(gates, start=1):
        if gate.id in first_row:
            raise GatesError(f"{path}: gate {number} ({gate.id!r}): gate {first_row[gate.id]} has this id already")
        first_row[gate.id] = number
    return GatesFile(path, hashlib.sha256(content).hexdigest(), data, head.recipe, head.budget, gates, golden)


def _plain_keys(text: str) -> str:
    """Return the text; raises `ValueError` for a key of hundreds of parts, which takes minutes to parse."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.partition("=")[0].count(".") > _MAX_PARTS:
            raise ValueError(f"line {number}: a dotted key of more than {_MAX_PARTS} parts")
    return text


_FIELDS = {item.name for item in fields(Gate)}


def _gate(row: Any, where: str, data: DataFingerprint) -> Gate:
    if not isinstance(row, dict):
        raise GatesError(f"{where}: expected a table, found {row!r}")
    where += f" ({str(row['id'])[:LONGEST]!r})" if "id" in row else ""
    own = {name: value for name, value in row.items() if name not in COMMON_KEYS}
    if taken := sorted(own.keys() & _FIELDS):
        raise GatesError(
            f"{where}: unknown key {taken[0]!r}; known are {', '.join(sorted(COMMON_KEYS))}, and what tests declare"
        )
    common = {"class_name" if name == "class" else name: row[name] for name in row if name in COMMON_KEYS}
    gate = read_record(Gate, {**common, "keys": own}, where=where, error=GatesError)
    if not is_id(gate.id):
        raise GatesError(
            f"{where}: id {gate.id[:LONGEST]!r} must be of lower-case ASCII letters, digits, dots and hyphens, at most "
            f"{LONGEST} of them"
        )
    if gate.family == GOLDEN:
        raise GatesError(
            f"{where}: rows of family {GOLDEN!r} are made of the golden set; `harness golden add` adds one"
        )
    if gate.significance == 0:
        raise GatesError(f"{where}: significance is 0, and no probability is below, so that the gate cannot fail")
    try:
        images = data.measured_by(gate.family)
        return gate.measured_by(METRICS[gate.metric], images=images) if gate.metric in METRICS else gate
    except GatesError as error:
        raise GatesError(f"{where}: {error}") from None
