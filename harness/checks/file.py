"""The checks file: every threshold of the stress tests, in TOML that a person can read and edit."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from harness.base.errors import PanelError, PipelineError, some_of
from harness.base.features import families_of_features, families_with_rows, record_tables
from harness.base.records import read_record, record, refusal_of_schema
from harness.checks.check import Check
from harness.checks.rows import COMMON_KEYS, LONGEST, RESERVED_KEYS, ChecksError, is_id
from harness.checks.tables import hash_of, hint_of_project, read_toml, split
from harness.data.domain import DEFAULT_BORDER, DEFAULT_RANGE, AugmentationRange, Domain, border_of
from harness.measures import METRICS
from harness.measures.metric import Unit
from harness.measures.panel.threshold import (
    AT_CHANCE,
    CONTRADICTED,
    FEW,
    HALF,
    K_DECIMALS,
    ROOT_DECIMALS,
    Calibrated,
    PanelCheck,
    decimals,
)
from harness.measures.worst_poses import BREAKING_SEVERITY
from harness.perturb.grids import PATHS
from harness.perturb.poses import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from harness.measures.metric import Metric

SCHEMA = 2


@record
class PanelSample:
    """A sample of `n` images with strata by what the reference panel knows; `seed` is that of the draw."""

    n: Annotated[int, Field(ge=12)]
    by: Literal["panel"]
    seed: Annotated[int, Field(ge=0)] = 0

    def __str__(self) -> str:
        return f"{self.n} by the panel"

    @property
    def named(self) -> str:
        """Return the sample as the threshold of a row has it."""
        return f"by {self.by}, n = {self.n}, seed = {self.seed}"


@record
class DataFingerprint:
    """The images that a checks file is made for; `classes` names the classes of data that only number them.

    With a `sample`, the thresholds are for a sample of that many of the `n` images, as in the quick profile. `samples`
    gives the sample of single families in any profile; it may be larger or smaller than `sample`. A number of images
    is stratified by class. In a `PanelSample`, checks of weighted metrics measure the sample, others all images.
    """

    name: str
    split: str
    sha256: str
    n: int
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    sample: int | PanelSample | None = None
    samples: dict[str, int | PanelSample] = field(default_factory=dict)
    pixels: Literal["uint8"] | None = None
    """`uint8` for models that see every image rounded to 8 bits, as PNG stores it; None for float32."""
    groups_sha256: str | None = None
    """SHA-256 of the groups of images that rows of family `slice` measure, see `harness.data.groups`."""
    augmentation: AugmentationRange = DEFAULT_RANGE
    border: str = DEFAULT_BORDER

    @property
    def domain(self) -> Domain:
        """Return the augmentation range and the border that thresholds were made for."""
        return Domain(self.augmentation, self.border)

    def size_of(self, family: str) -> int:
        """Return the number of images that the thresholds of a family are for."""
        return _size(self.samples.get(family, self.measured))

    def by_hand_of(self, family: str) -> int:
        """Return the number of images that thresholds by hand are for; a weighted count is of all images."""
        return self.n if self.by_panel(family) else self.size_of(family)

    def by_panel(self, family: str) -> PanelSample | None:
        """Return the sample of a family that has one with strata by the panel."""
        sample = self.samples.get(family, self.sample)
        return sample if isinstance(sample, PanelSample) else None

    def expect_numbers(self, families: Iterable[str], why: str) -> None:
        """Raise `ChecksError` if a family has a sample by the panel, whose images an export cannot know."""
        if named := sorted(family for family in families if self.by_panel(family)):
            raise ChecksError(
                f"samples of {some_of(named)} are by the panel, but {why}, so an export cannot know their images; "
                "write a number in [data.samples], or as [data] sample"
            )

    @property
    def measured(self) -> int:
        """Return the number of images that the thresholds are for, unless `samples` names the family."""
        return self.n if self.sample is None else _size(self.sample)


def _size(sample: int | PanelSample) -> int:
    return sample.n if isinstance(sample, PanelSample) else sample


@record
class _Head:
    schema: int
    protocol: int
    data: DataFingerprint
    check: tuple[()] = ()
    """The rows, which are read one by one."""
    recipe: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    """The project's settings, which are read from its own file alone, see `harness.checks.tables`."""


@dataclass(frozen=True)
class ChecksFile:
    """A checks file in memory.

    `recipe` describes the reference models behind the thresholds. Features have `tables` of their own, by name. Some
    make checks of theirs, which come last; others have a record, None without the table.
    """

    path: Path
    sha256: str
    data: DataFingerprint
    recipe: dict[str, Any]
    checks: tuple[Check, ...]
    tables: Mapping[str, Any] = field(default_factory=dict)

    def family(self, name: str) -> tuple[Check, ...]:
        """Return the rows of a family, in the file's order."""
        return tuple(check for check in self.checks if check.family == name)

    @cached_property
    def tolerances(self) -> int:
        """Return the number of checks with a tolerance, at least 1; they share the probability of a wrong verdict."""
        return max(sum(check.tolerance is not None for check in self.checks), 1)

    def weighted(self, family: str) -> bool:
        """Return whether a sample with strata can estimate every check of a family."""
        return all(
            check.metric in METRICS and METRICS[check.metric].weighted
            for check in self.family(family)
        )

    @property
    def written(self) -> tuple[Check, ...]:
        """Return the rows of the file itself, without those that features make."""
        made = {name for name, family in families_of_features().items() if family.images}
        return tuple(check for check in self.checks if check.family not in made)

    @property
    def panel_predictions(self) -> Path | None:
        """Return the file of panel predictions; the recipe names it relative to this file. None without one."""
        named = self.recipe.get("panel_predictions")
        return None if named is None else self.path.parent / str(named)

    def expect_panel_predictions(self, path: Path, sha256: str) -> None:
        """Raise `InputError` if the thresholds were made with panel predictions of another hash."""
        made_with = self.recipe.get("panel_predictions_sha256")
        if made_with != sha256 and (made_with or self.panel_predictions):
            raise PanelError(
                f"{path}: its SHA-256 is {sha256[:12]}…, the thresholds of {self.path} were made with "
                f"{str(made_with)[:12]}…; bring back that file, or calibrate anew"
            )

    def expect_rows_as_calibrated(self) -> None:
        """Raise `ChecksError` for the first check that has changed since its calibration."""
        for check in self.checks:
            self.expect_as_calibrated(check)

    def expect_as_calibrated(self, check: Check) -> None:
        """Raise `ChecksError` for a check that has changed, for example in its pose, since its calibration.

        Also for a panel threshold that does not follow from its own mean, std and k: a person edited it.
        """
        if check.panel is None:
            return
        if not check.definition.startswith(check.panel.definition):
            raise ChecksError(
                f"{self.path}: check {check.id!r} has changed since its threshold was calibrated; undo the change, "
                f"calibrate its family again (--family {check.family}), or remove `panel` from the row"
            )
        if check.metric in METRICS and (found := departure_of(check, METRICS[check.metric])):
            raise ChecksError(f"{self.path}: {found}")


def read_checks(path: Path, *, content: bytes | None = None) -> ChecksFile:
    """Read and validate a checks file, or a new `content`; raises `ChecksError`, which names file and row.

    Keys that a single test declares are validated when pytest collects that test, see `Check.with_keys`.
    """
    mended = hint_of_project(path) or "name a checks file with --checks, or correct this one"
    content, table = read_toml(path, error=ChecksError, mended=mended, content=content)
    rows, table["check"] = table.get("check", []), []
    if not isinstance(rows, list):
        raise ChecksError(f"{path}: check must be an array of tables, written [[check]]")
    families = families_with_rows()
    tables = {name: table.pop(name, None) for name in families}
    tables |= _records_of_features(table, path)
    _expect_samples(table.get("data"), f"{path}: data")
    head = read_record(_Head, table, where=f"{path}", error=ChecksError)
    if head.gate and "gate" in tomllib.loads(split(content.decode())[1]):
        raise ChecksError(
            f"{path}: write [gate] as a table of its own, with each value on one line"
        )
    if head.schema != SCHEMA:
        raise ChecksError(refusal_of_schema(path, head.schema, expected=SCHEMA))
    if head.protocol != PROTOCOL:
        raise ChecksError(
            f"{path}: protocol is {head.protocol}, this version works with protocol {PROTOCOL}"
        )
    data = head.data
    _expect_border(data, path)
    if not 1 <= data.measured <= data.n:
        raise ChecksError(
            f"{path}: [data] sample is {data.measured}, expected a number from 1 to n, {data.n}"
        )
    written = {row.get("family") for row in rows if isinstance(row, dict)}
    for name in data.samples:
        size = data.size_of(name)
        if not 1 <= size <= data.n:
            limits = f"from 1 to {data.n}"
            raise ChecksError(
                f"{path}: [data.samples] {name} is {size}, expected a number of images {limits}"
            )
        if name not in written:
            raise ChecksError(
                f"{path}: [data.samples] {name}: there is no row of this family; correct or remove it"
            )
    if len(set(data.classes)) != len(data.classes):
        raise ChecksError(f"{path}: [data] classes names a class twice: {', '.join(data.classes)}")
    checks = (
        *(_check(row, f"{path}: check {number}", data) for number, row in enumerate(rows, start=1)),
        *(check for name, rows_of in families.items() for check in rows_of(path, tables[name])),
    )
    first_row: dict[str, int] = {}
    for number, check in enumerate(checks, start=1):
        if (first := first_row.setdefault(check.id, number)) != number:
            raise ChecksError(
                f"{path}: check {number} ({check.id!r}): check {first} has this id already"
            )
    return ChecksFile(path, hash_of(content), data, head.recipe, checks, tables)


def _records_of_features(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Take features' tables with records out of the table of a file, and return their records, None without one."""
    records: dict[str, Any] = {}
    taken = {item.name for item in fields(_Head)} | families_with_rows().keys()
    for name, kind in record_tables(taken).items():
        plain = table.pop(name, None)
        records[name] = None
        if plain is not None:
            records[name] = read_record(kind(), plain, where=f"{path}: {name}", error=ChecksError)
    return records


def _expect_border(data: DataFingerprint, path: Path) -> None:
    """Raise `ChecksError` for a border that does not exist, or in another spelling than `border_of` gives."""
    try:
        border = border_of(data.border)
    except PipelineError as error:
        raise ChecksError(f"{path}: [data] {error}") from None
    if border != data.border:
        raise ChecksError(
            f"{path}: [data] border is {data.border!r}, expected the spelling {border!r}"
        )


def _expect_samples(data: Any, where: str) -> None:
    """Raise `ChecksError` for a sample that is no number and no table of one by the panel."""
    data = data if isinstance(data, dict) else {}
    named = data.get("samples") if isinstance(data.get("samples"), dict) else {}
    given = {
        "sample": data.get("sample", 1),
        **{f"samples: {name}": each for name, each in named.items()},
    }
    for name, sample in given.items():
        if isinstance(sample, dict):
            read_record(PanelSample, sample, where=f"{where}: {name}", error=ChecksError)
        else:
            read_record(int, sample, where=where, name=name, error=ChecksError)


def _check(row: Any, where: str, data: DataFingerprint) -> Check:
    if not isinstance(row, dict):
        raise ChecksError(f"{where}: expected a table, found {row!r}")
    where += f" ({str(row['id'])[:LONGEST]!r})" if "id" in row else ""
    own = {name: value for name, value in row.items() if name not in COMMON_KEYS}
    if taken := sorted(own.keys() & RESERVED_KEYS):
        raise ChecksError(
            f"{where}: unknown key {taken[0]!r}; known are {', '.join(sorted(COMMON_KEYS))}, and what tests declare"
        )
    common = {
        "class_name" if name == "class" else name: row[name] for name in row if name in COMMON_KEYS
    }
    check = read_record(Check, {**common, "keys": own}, where=where, error=ChecksError)
    if not is_id(check.id):
        raise ChecksError(
            f"{where}: id {check.id[:LONGEST]!r} must be of lower-case ASCII letters, digits, dots and hyphens, at "
            f"most {LONGEST} of them"
        )
    if check.family in families_with_rows():
        raise ChecksError(
            f"{where}: rows of family {check.family!r} are made of the table [{check.family}] alone"
        )
    if check.significance == 0:
        raise ChecksError(
            f"{where}: significance is 0, so the check cannot fail; expected a probability above 0"
        )
    if check.tolerance is not None and check.hand is not None:
        raise ChecksError(f"{where}: has a tolerance and a threshold by hand; remove one")
    if check.by_conversions:
        check = replace(check, tolerance=None)
    try:
        images, metric = data.by_hand_of(check.family), METRICS.get(check.metric)
        return check.with_metric(metric, images=images) if metric else check
    except ChecksError as error:
        raise ChecksError(f"{where}: {error}") from None


# A panel threshold follows from mean, std and k of its row, or a person edited it.

_NUMBERS = {
    "mean": None,
    "std": 0,
    "k": 0,
    "reference_models": 1,
    "minimum_detectable_drop": 0,
    "n": 1,
}
"""Numbers that every panel threshold has, with the smallest valid value of each."""


def departure_of(check: Check, metric: Metric) -> str:
    """Return the error for the first value of a check's panel threshold that does not follow from those of its row.

    Empty if all follow, to the precision of the file.
    """
    panel = check.panel
    if panel is None:
        return ""
    root = {"root_mean": None, "root_std": 0} if metric.scale == "root" else {}
    for key, least in {**_NUMBERS, **root, "definition": None}.items():
        found = getattr(panel, key)
        if found in {None, ""} or (least is not None and found < least):
            return _departure(check, key, found, "the one that calibration writes")
    possible = _possible(check, metric)
    written = [item.written for item in possible]
    for key in ("threshold", "minimum_detectable_drop"):
        low, high = (
            min(numbers[key] for numbers in written),
            max(numbers[key] for numbers in written),
        )
        if not low <= (found := getattr(panel, key)) <= high:
            return _departure(
                check, key, found, f"{low:g}" if low == high else f"{low:g} to {high:g}"
            )
    reasons = {item.informational for item in possible}
    of_others = check.informational.startswith((CONTRADICTED, AT_CHANCE))
    if of_others or bool(check.informational) in {bool(reason) for reason in reasons}:
        return ""
    return _departure(check, "informational", check.informational, repr(max(reasons)))


def _departure(check: Check, key: str, found: object, expected: str) -> str:
    hand = (
        f', or declare it by hand: hand = {{ threshold = {found}, reason = "..." }}'
        if key == "threshold"
        else ""
    )
    return (
        f"check {check.id!r}: {key} of the panel threshold is {found!r}, expected {expected}, by its own mean, std "
        f"and k. Restore the row, calibrate its family again (--family {check.family}){hand}"
    )


def _possible(check: Check, metric: Metric) -> list[Calibrated]:
    numbers = {key: getattr(check.panel, key) for key in (*_NUMBERS, "root_mean", "root_std")}
    path = PATHS.get(str(check.keys.get("path"))) if metric.name == BREAKING_SEVERITY.name else None
    unit, models = metric.unit if path is None else Unit(path.unit), numbers["reference_models"]
    more: dict[str, Any] = {
        "scale": metric.scale,
        "of_loss": check.panel.of_loss if check.panel else 0.0,
    }
    about = PanelCheck(
        check.id, check.family, metric.name, unit, metric.direction, numbers["n"], **more
    )

    def around(key: str, digits: int) -> tuple[float, float]:
        half = HALF * 10**-digits
        return numbers[key] - half, numbers[key] + half

    means, (low, high) = around("mean", decimals(unit)), around("std", decimals(unit) + 1)
    centres = [(mean, mean) for mean in means]
    if metric.scale == "root":
        centres = list(product(means, around("root_mean", ROOT_DECIMALS)))
        low, high = around("root_std", ROOT_DECIMALS)
    # No spread is negative; one that the file rounds to zero may be any from zero on.
    spreads = max(low, 0.0), high
    # The file does not store whether few models had a prior, so both are possible.
    priors = (False, True) if models < FEW else (False,)
    found = []
    for (mean, centre), spread, k, prior in product(
        centres, spreads, around("k", K_DECIMALS), priors
    ):
        found.append(
            Calibrated(about, mean, numbers["std"], centre, spread, k, models, prior=prior)
        )
    return found
