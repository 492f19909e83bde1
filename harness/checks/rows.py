"""Rows of the checks file: the ID of each, its thresholds, and its keys."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.records import read_record, record
from harness.checks.conditions import Conditions
from harness.checks.roles import ROLES
from harness.measures import is_tolerated_at_first
from harness.measures.metric import Direction
from harness.perturb.poses import IDENTITY, Pose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

T = TypeVar("T")

LONGEST = 200
"""Characters of the longest id."""


def is_id(name: str) -> bool:
    """Return whether a checks file accepts this as the id of a check."""
    return len(name) <= LONGEST and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) is not None


def id_without_check(family: str, metric: str = "") -> str:
    """Return the id of a test without a check: `slight-tilt` for the family `slight_tilt`."""
    return "-".join(filter(None, (family, metric))).replace("_", "-").lower()


class ChecksError(InputError):
    """A checks file that cannot be used; the message names file and check."""

    code = Code.CHECKS


def _existing_role(role: str) -> str:
    if role not in ROLES:
        raise PydanticCustomError("role", "one of {known}", {"known": ", ".join(ROLES)})
    return role


Share = Annotated[float, Field(ge=0, le=1)]
"""Type of a key that holds a number from 0 to 1."""


def one_of(names: Iterable[str]) -> Any:
    """Return the type of a key that holds one of these names."""
    return Literal[tuple(names)]


@dataclass(frozen=True)
class Key(Generic[T]):
    """Key of a family's checks: its name in the checks file, its type, and the words for its value.

    `kind` is a type: `str`, `float`, `tuple[str, str]`, `Literal["wrong"]`, a frozen dataclass such
    as `Pose`, or one with limits as in pydantic, `Annotated[float, Field(ge=0, le=1)]`. `words` are
    for the report: a format string for the value, such as "fog of density {:.0%}", or a function of
    it. A stress test declares the key in `@check("fog", DENSITY)` and reads its value as
    `stress_check[DENSITY]`.
    """

    name: str
    kind: type[T] | Any
    words: str | Callable[[Any], str] = "{}"

    def said(self, value: Any) -> str:
        """Return the words for a value."""
        if isinstance(self.words, str):
            return self.words.format(value)
        return self.words(value)


@record
class Threshold:
    """A threshold and its provenance, such as the reference models behind it.

    `mean` and `std` are those of `reference_models` networks of other seeds. The threshold is for
    `n` images, by default for all images of the data. A calibrated threshold lies `k` standard
    deviations of prediction from the mean. With 95% power it detects a loss of
    `minimum_detectable_drop`, in the unit of the metric. `definition` is the beginning of the
    check's own at the time of calibration. If `conversions` names a command, that command converted
    the reference models, and each conversion was compared with its original.
    """

    threshold: int | float
    reason: str = ""
    mean: int | float | None = None
    std: int | float | None = None
    reference_models: int | None = None
    k: int | float | None = None
    minimum_detectable_drop: int | float | None = None
    n: int | None = None
    definition: str = ""
    date: str = ""
    root_mean: int | float | None = None
    """Mean of 2 sqrt(x + 3/8), for a metric with a threshold on that scale.

    `root_std` is its standard deviation.
    """
    root_std: int | float | None = None
    conversions: str = ""
    of_loss: float = 0.0
    """Largest variance by sampling of a loss of one unit, in a sample with strata.

    `sample` names the sample.
    """
    sample: str = ""


@record
class Row:
    """A row of the checks file: a case of a family, and the threshold for its measurement.

    `role` names the model that the check measures. `direction` is the good side of the threshold,
    by default that of the metric. A family's test decides what `pose`, `class_name` and its own
    `keys` mean. A check is informational if it has no threshold, or if `informational` gives a
    reason to ignore the panel's. A comparison of two models fails only if its p-value is below
    `significance`. A `tolerance` limits a distance from the original. The check passes if the upper
    99% bound lies within it, and fails if the lower one lies beyond it. Else it is inconclusive.
    """

    id: str
    family: str
    metric: str
    direction: Direction | None = None
    role: Annotated[str, AfterValidator(_existing_role)] = "candidate"
    pose: Pose = IDENTITY
    class_name: str | None = None
    significance: Annotated[float, Field(ge=0, le=1)] | None = None
    informational: str = ""
    hand: Threshold | None = None
    panel: Threshold | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None = None
    reason: str = ""
    """The reason for the tolerance."""
    keys: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """The keys, as text."""
    definition: str = ""
    """Hash of the measurement that the file defines for the check, without its thresholds."""

    def __post_init__(self) -> None:
        if not self.definition:
            object.__setattr__(self, "definition", _definition(self))

    def __getitem__(self, key: Key[T]) -> T | None:
        """Return the value of a key that the stress test declares; None if the check lacks it."""
        if key.name not in self.keys:
            raise ChecksError(
                f"check {self.id}: the test reads the key {key.name!r} and does not declare it; "
                f'add its Key to @check("{self.family}", ...)'
            )
        value: T | None = self.keys[key.name]
        return value

    def with_keys(self, declared: Sequence[Key[Any]], *, path: Path, test: str) -> Self:
        """Return the check with the values of the keys that its test declares.

        The value of a key that the check leaves out is None.

        Raises:
            ChecksError: A key is undeclared, or its value has another type. The message names file,
                check and test.
        """
        where = f"{path}: check {self.id!r} of {test}"
        undeclared = sorted(set(self.keys) - {key.name for key in declared})
        if undeclared:
            common_keys = ", ".join(sorted(COMMON_KEYS))
            declared_names = ", ".join(sorted(key.name for key in declared)) or "none"
            raise ChecksError(
                f"{where}: unknown key {undeclared[0]!r}; known are {common_keys}, "
                f"and those that the test declares: {declared_names}"
            )

        values, words = {}, []
        for key in declared:
            value = self.keys.get(key.name)
            if value is not None:
                value = read_record(key.kind, value, where=where, name=key.name, error=ChecksError)
                words.append(key.said(value))
            values[key.name] = value
        return replace(self, keys=values, words=tuple(words))

    @property
    def binding(self) -> Threshold | None:
        """Return the threshold that counts; None without one.

        A threshold by hand, or a tolerance, wins over the panel's.
        """
        by_hand = self.hand or self._tolerated
        if by_hand is None and not self.informational:
            return self.panel
        return by_hand

    @property
    def _tolerated(self) -> Threshold | None:
        if self.tolerance is None:
            return None
        has_own_threshold = bool(self.panel) and not self.informational
        if has_own_threshold and is_tolerated_at_first(self.metric):
            return None
        return Threshold(self.tolerance, reason=self.reason)

    @property
    def by_hand(self) -> Threshold | None:
        """Return the threshold or the tolerance that a person set; None without one."""
        return self.hand or self._tolerated

    @property
    def is_tolerance(self) -> bool:
        """Return whether the threshold that counts is a tolerance."""
        return self.hand is None and self._tolerated is not None

    @property
    def by_conversions(self) -> bool:
        """Return whether the threshold that counts comes from conversions.

        It then replaces a tolerance.
        """
        if self.panel is None or self.informational or self.hand is not None:
            return False
        return bool(self.panel.conversions)

    @property
    def provenance(self) -> str | None:
        """Return the origin of the threshold that counts: hand, panel or conversions.

        None without a threshold.
        """
        if self.binding is None:
            return None
        if self.by_hand:
            return "hand"
        return "conversions" if self.by_conversions else "panel"

    @property
    def reference(self) -> Threshold | None:
        """Return the panel's threshold, binding or not, or else the one by hand, if any."""
        return self.panel or self.by_hand

    def holds(self, value: float, limit: float) -> bool:
        """Return whether the value is on the good side of the limit."""
        if self.direction == "at_most":
            return value <= limit
        return value >= limit


COMMON_KEYS = frozenset({"class", *(item.name for item in fields(Row))}) - {
    "class_name",
    "keys",
    "words",
    "definition",
}
"""Keys that every check may have; a family's test declares the others."""
RESERVED_KEYS = frozenset(item.name for item in (*fields(Row), *fields(Conditions)))
"""Names that no key of a test may have: `stress.json` has them for every check."""


def declared_keys(keys: Sequence[object], *, test: str) -> tuple[Key[Any], ...]:
    """Return the keys that a test declares.

    Raises `ChecksError`, which names the test, for an invalid one.
    """
    declared: list[Key[Any]] = []
    names: set[str] = set()
    for key in keys:
        if not isinstance(key, Key):
            raise ChecksError(
                f'{test} declares {key!r}; expected a key such as Key("strength", float)'
            )
        if key.name in COMMON_KEYS | RESERVED_KEYS:
            raise ChecksError(
                f"{test} declares a key {key.name!r}, but every check has something of this name; "
                "choose another name"
            )
        if key.name in names:
            raise ChecksError(f"{test} declares the key {key.name!r} twice; remove one")
        declared.append(key)
        names.add(key.name)
    return tuple(declared)


def _definition(check: Row) -> str:
    """Return the hash of what the check measures."""
    content = {
        "id": check.id,
        "family": check.family,
        "metric": check.metric,
        "role": check.role,
        "pose": asdict(check.pose),
        "class": check.class_name,
        "significance": check.significance,
        "keys": check.keys,
    }
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
