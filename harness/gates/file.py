"""The gates file: every threshold of the stress tests, in TOML that a person can read and edit."""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from harness.gates.verdicts import Bound, Direction, Gate, GatesError
from harness.perturb import PROTOCOL, Pose
from harness.perturb.corruptions import ALL, CORRUPTIONS, SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = 1


@dataclass(frozen=True)
class DataFingerprint:
    """The images that a gates file was made for; `classes` names their classes anew, for data that only number them.

    With a `sample`, the bounds are for a stratified sample of so many of the `n` images, the quick profile's.
    """

    name: str
    split: str
    sha256: str
    n: int
    classes: tuple[str, ...] = ()
    sample: int | None = None

    @property
    def measured(self) -> int:
        """Return how many images the bounds were made for."""
        return self.n if self.sample is None else self.sample


@dataclass(frozen=True)
class GatesFile:
    """A gates file as read.

    `recipe` says whose healthy retrains the bounds come from; `budgets` gives, by metric or family, the largest loss
    that a gate may fail to notice and still be a gate.
    """

    path: Path
    sha256: str
    data: DataFingerprint
    recipe: Mapping[str, Any]
    budgets: Mapping[str, float]
    gates: tuple[Gate, ...]

    def family(self, name: str) -> tuple[Gate, ...]:
        """Return the rows of a family, in the file's order."""
        return tuple(gate for gate in self.gates if gate.family == name)


def read_gates(path: Path) -> GatesFile:
    """Read and check a gates file; raises `GatesError` naming file and row for whatever is wrong with it."""
    try:
        content = path.read_bytes()
        table = tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise GatesError(f"{path}: cannot be read ({error.strerror}); name a gates file with --gates") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GatesError(f"{path}: not valid TOML: {error}") from None
    known = {"schema", "protocol", "data", "recipe", "budget", "gate"}
    _expect_keys(table, known, {"schema", "protocol", "data"}, f"{path}")
    for key, expected in (("schema", SCHEMA), ("protocol", PROTOCOL)):
        if table[key] != expected or isinstance(table[key], bool):
            raise GatesError(f"{path}: {key} is {table[key]!r}, this version works with {key} {expected}")
    data = _typed(DataFingerprint, _with_classes(table["data"], path), f"{path}: [data]")
    if not 1 <= data.measured <= data.n:
        raise GatesError(f"{path}: [data] sample is {data.sample}, expected a number from 1 to n, {data.n}")
    if not isinstance(rows := table.get("gate", []), list):
        raise GatesError(f"{path}: gate must be an array of tables, written [[gate]]")
    if not isinstance(recipe := table.get("recipe", {}), dict):
        raise GatesError(f"{path}: recipe is {recipe!r}, expected a table")
    budgets = _budgets(table.get("budget", {}), path)
    gates = tuple(_gate(row, f"{path}: gate {number}", data.measured) for number, row in enumerate(rows, start=1))
    first_row: dict[str, int] = {}
    for number, gate in enumerate(gates, start=1):
        if gate.id in first_row:
            raise GatesError(f"{path}: gate {number} ({gate.id!r}): gate {first_row[gate.id]} has this id already")
        first_row[gate.id] = number
    return GatesFile(path, hashlib.sha256(content).hexdigest(), data, recipe, budgets, gates)


T = TypeVar("T")

_SHARES = (
    *("accuracy", "right_at_every_pose", "random_pose_accuracy", "worst_of_ten", "unchanged_share"),
    *("attention_ratio", "attention_drift", "dead_maps", "kept", "lost"),
    *("calibration_error", "confidence_on_errors", "risk_coverage_area"),
    *("invariance", "monotonicity", "symmetry"),
)
_DIFFERENCES = ("accuracy_gain", "accuracy_change", "confidence_rise")
_BOUND_RANGES = {
    **dict.fromkeys(_SHARES, (0.0, 1.0)),
    **dict.fromkeys(_DIFFERENCES, (-1.0, 1.0)),
    **dict.fromkeys(("attention_lift", "mean_corruption_error", "negative_log_likelihood"), (0.0, math.inf)),
    "brier_score": (0.0, 2.0),
}
_COUNTS = ("pair_failures", "confident_errors")
_LESS_IS_BETTER = frozenset(
    (
        *(*_COUNTS, "calibration_error", "negative_log_likelihood", "brier_score"),
        *("confidence_on_errors", "risk_coverage_area", "confidence_rise", "mean_corruption_error"),
        *("attention_drift", "dead_maps"),
    )
)


def direction_of(metric: str, unit: str) -> Direction:
    """Return on which side of its bound a measure must lie; of those not known here, counts must not rise."""
    return "at_most" if metric in _LESS_IS_BETTER or unit == "images" else "at_least"


def _budgets(table: Any, path: Path) -> Mapping[str, float]:
    if not isinstance(table, dict):
        raise GatesError(f"{path}: budget is {table!r}, expected a table of families and losses")
    for family, loss in table.items():
        if isinstance(loss, bool) or not isinstance(loss, int | float) or not 0 < loss < math.inf:
            raise GatesError(f"{path}: [budget] {family} is {loss!r}, expected a number above 0")
    return table


def _with_classes(table: Any, path: Path) -> Any:
    match table:
        case {"classes": list(names)} if names and all(isinstance(name, str) for name in names):
            if len(set(names)) != len(names):
                raise GatesError(f"{path}: [data] classes names a class twice: {', '.join(names)}")
            return {**table, "classes": tuple(names)}
        case {"classes": names}:
            raise GatesError(f"{path}: [data] classes is {names!r}, expected a list of names, one per class")
    return table


def _gate(row: Any, where: str, images: int) -> Gate:
    if not isinstance(row, dict):
        raise GatesError(f"{where}: expected a table, found {row!r}")
    where += f" ({row['id']!r})" if "id" in row else ""
    row = dict(row)
    if "class" in row:
        row["class_name"] = row.pop("class")
    if "share" in row:
        raise GatesError(f"{where}: unknown key 'share'")
    poses = {name: _typed(Pose, row[name], f"{where}: {name}") for name in ("pose", "within") if name in row}
    bounds = {name: _typed(Bound, row[name], f"{where}: {name}") for name in ("hand", "panel") if name in row}
    if "pair" in row:
        match row["pair"]:
            case [str(first), str(second)] if first != second:
                row["pair"] = (first, second)
            case pair:
                raise GatesError(f"{where}: pair is {pair!r}, expected two class names, not the same twice")
    gate = _typed(Gate, {**row, **poses, **bounds}, where)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", gate.id):
        raise GatesError(f"{where}: id {gate.id!r} must be of lower-case ASCII letters, digits, dots and hyphens")
    for name, choices in (("direction", ("at_least", "at_most")), ("role", ("candidate", "baseline", "incumbent"))):
        if getattr(gate, name) not in choices:
            raise GatesError(f"{where}: {name} is {getattr(gate, name)!r}, expected one of {', '.join(choices)}")
    _expect_ranges(gate, where, images)
    return gate


def _expect_ranges(gate: Gate, where: str, images: int) -> None:
    low, high = _BOUND_RANGES.get(gate.metric, (-math.inf, math.inf))
    for bound in filter(None, (gate.hand, gate.panel)):
        if not low <= bound.bound <= high or not math.isfinite(bound.bound):
            raise GatesError(f"{where}: bound {bound.bound} is outside the range of {gate.metric}, {low} to {high}")
    if gate.answers not in {None, "wrong"}:
        raise GatesError(f"{where}: answers is {gate.answers!r}, expected 'wrong', or no such key for all answers")
    if gate.metric in _LESS_IS_BETTER and gate.direction != "at_most":
        raise GatesError(f'{where}: of {gate.metric} less is better; write direction = "at_most"')
    worst = low if gate.direction == "at_least" else images if gate.metric in _COUNTS else high
    if gate.hand and gate.holds(worst, gate.hand.bound):
        raise GatesError(
            f"{where}: no {gate.metric} is beyond {gate.hand.bound}, so that the gate cannot fail; without a bound the "
            "row is reported only"
        )
    if gate.significance == 0:
        raise GatesError(f"{where}: significance is 0, and no probability is below, so that the gate cannot fail")
    for name in ("confidence", "significance", "share_broken", "strength"):
        if (value := getattr(gate, name)) is not None and not 0 <= value <= 1:
            raise GatesError(f"{where}: {name} is {value}, expected a number from 0 to 1")
    if gate.corruption is not None and gate.corruption not in {ALL, *CORRUPTIONS}:
        raise GatesError(f"{where}: corruption is {gate.corruption!r}, expected {', '.join(CORRUPTIONS)} or {ALL}")
    if gate.severity is not None and gate.severity not in SEVERITIES:
        raise GatesError(f"{where}: severity is {gate.severity}, expected a whole number from 1 to 5")


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "Pose": (Pose,),
    "Bound": (Bound,),
    "Direction": (str,),
    "Role": (str,),
    "tuple[str, str]": (tuple,),
    "tuple[str, ...]": (tuple,),
}


def _typed(kind: type[T], values: Any, where: str) -> T:
    """Build a frozen record from a TOML table, checking its keys and the types that its annotations name."""
    if not isinstance(values, dict):
        raise GatesError(f"{where}: expected a table, found {values!r}")
    annotations = {item.name: str(item.type).removesuffix(" | None") for item in fields(kind)}  # type: ignore[arg-type]
    required = {item.name for item in fields(kind) if item.default is MISSING}  # type: ignore[arg-type]
    _expect_keys(values, set(annotations), required, where)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, _TYPES[annotations[name]]):
            raise GatesError(f"{where}: {name} is {value!r}, expected {annotations[name]}")
        if isinstance(value, float) and not math.isfinite(value) and name != "bound":
            raise GatesError(f"{where}: {name} is {value}, expected a finite number")
    return kind(**values)


def _expect_keys(table: Mapping[str, Any], known: set[str], required: set[str], where: str) -> None:
    if unknown := sorted(set(table) - known):
        raise GatesError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    if missing := sorted(required - set(table)):
        raise GatesError(f"{where}: key {missing[0]!r} is missing")
