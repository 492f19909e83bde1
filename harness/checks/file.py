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
    """A sample of `n` images with strata by the errors of the reference panel.

    `seed` is that of the draw.
    """

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
    """The images that a checks file is made for.

    `classes` names the classes of data that only number them. With a `sample`, the thresholds are
    for a sample of that many of the `n` images, as in the quick profile. `samples` gives the sample
    of single families in any profile; it may be larger or smaller than `sample`. A number of images
    is stratified by class. In a `PanelSample`, checks of weighted metrics measure the sample,
    others all images.
    """

    name: str
    split: str
    sha256: str
    n: int
    classes: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    sample: int | PanelSample | None = None
    samples: dict[str, int | PanelSample] = field(default_factory=dict)
    pixels: Literal["uint8"] | None = None
    """`uint8` for models that see every image rounded to 8 bits, as PNG stores it; else None."""
    groups_sha256: str | None = None
    """SHA-256 of the groups of images that rows of family `slice` measure.

    See `harness.data.groups`.
    """
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
        """Return the number of images that thresholds by hand are for.

        A weighted count is of all images.
        """
        return self.n if self.by_panel(family) else self.size_of(family)

    def by_panel(self, family: str) -> PanelSample | None:
        """Return the sample of a family that has one with strata by the panel."""
        sample = self.samples.get(family, self.sample)
        return sample if isinstance(sample, PanelSample) else None

    def expect_numbers(self, families: Iterable[str], why: str) -> None:
        """Raise `ChecksError` if a family has a sample by the panel.

        An export cannot know the images of such a sample; `why` says so in the message.
        """
        by_panel = sorted(family for family in families if self.by_panel(family))
        if by_panel:
            raise ChecksError(
                f"samples of {some_of(by_panel)} are by the panel, but {why}, so an export cannot "
                "know their images; write a number in [data.samples], or as [data] sample"
            )

    @property
    def measured(self) -> int:
        """Return the number of images that the thresholds of families without `samples` are for."""
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
    """The project's settings; only its own file sets them, see `harness.checks.tables`."""


@dataclass(frozen=True)
class ChecksFile:
    """A checks file in memory.

    `recipe` describes the reference models behind the thresholds. Features have `tables` of their
    own, by name. Some make checks of theirs, which come last; others have a record, None without
    the table.
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
        """Return the number of checks with a tolerance, at least 1.

        They share the probability of a wrong verdict.
        """
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
        families = families_of_features()
        without_rows = {name for name, family in families.items() if family.images}
        return tuple(check for check in self.checks if check.family not in without_rows)

    @property
    def panel_predictions(self) -> Path | None:
        """Return the file of panel predictions; None without one.

        The recipe names it relative to the checks file.
        """
        name = self.recipe.get("panel_predictions")
        return None if name is None else self.path.parent / str(name)

    def expect_panel_predictions(self, path: Path, sha256: str) -> None:
        """Raise `InputError` if the thresholds were made with panel predictions of another hash."""
        recorded_sha256 = self.recipe.get("panel_predictions_sha256")
        has_predictions = recorded_sha256 or self.panel_predictions
        if recorded_sha256 != sha256 and has_predictions:
            raise PanelError(
                f"{path}: its SHA-256 is {sha256[:12]}…, the thresholds of {self.path} "
                f"were made with {str(recorded_sha256)[:12]}…; "
                "bring back that file, or calibrate anew"
            )

    def expect_rows_as_calibrated(self) -> None:
        """Raise `ChecksError` for the first check that has changed since its calibration."""
        for check in self.checks:
            self.expect_as_calibrated(check)

    def expect_as_calibrated(self, check: Check) -> None:
        """Raise `ChecksError` for a check that has changed since its calibration, say in its pose.

        Also for a panel threshold that does not follow from its own mean, std and k, because a
        person edited it.
        """
        if check.panel is None:
            return
        if not check.definition.startswith(check.panel.definition):
            raise ChecksError(
                f"{self.path}: check {check.id!r} has changed since its threshold was calibrated; "
                f"undo the change, calibrate its family again (--family {check.family}), "
                "or remove `panel` from the row"
            )
        if check.metric not in METRICS:
            return
        departure = departure_of(check, METRICS[check.metric])
        if departure:
            raise ChecksError(f"{self.path}: {departure}")


def read_checks(path: Path, *, content: bytes | None = None) -> ChecksFile:
    """Read and validate a checks file, or a new `content` of it.

    Keys that a single test declares are validated when pytest collects that test, see
    `Check.with_keys`.

    Raises:
        ChecksError: The content is invalid; the message names file and row.
    """
    remedy = hint_of_project(path) or "name a checks file with --checks, or correct this one"
    content, table = read_toml(path, error=ChecksError, mended=remedy, content=content)
    rows = table.get("check", [])
    table["check"] = []
    if not isinstance(rows, list):
        raise ChecksError(f"{path}: check must be an array of tables, written [[check]]")

    families = families_with_rows()
    tables = {name: table.pop(name, None) for name in families}
    tables |= _records_of_features(table, path)
    head = _head_of(table, content, path)
    data = head.data
    _expect_border(data, path)
    _expect_sizes(data, rows, path)
    if len(set(data.classes)) != len(data.classes):
        raise ChecksError(f"{path}: [data] classes names a class twice: {', '.join(data.classes)}")

    checks = [
        _check(row, f"{path}: check {number}", data) for number, row in enumerate(rows, start=1)
    ]
    for name, rows_of_feature in families.items():
        checks.extend(rows_of_feature(path, tables[name]))
    _expect_different_ids(checks, path)
    return ChecksFile(path, hash_of(content), data, head.recipe, tuple(checks), tables)


def _head_of(table: dict[str, Any], content: bytes, path: Path) -> _Head:
    """Return what stands besides the rows and the features' tables."""
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
    return head


def _expect_sizes(data: DataFingerprint, rows: list[Any], path: Path) -> None:
    """Raise `ChecksError` for a sample of more than all images, or of a family without a row."""
    if not 1 <= data.measured <= data.n:
        raise ChecksError(
            f"{path}: [data] sample is {data.measured}, expected a number from 1 to n, {data.n}"
        )
    families = {row.get("family") for row in rows if isinstance(row, dict)}
    for name in data.samples:
        size = data.size_of(name)
        if not 1 <= size <= data.n:
            limits = f"from 1 to {data.n}"
            raise ChecksError(
                f"{path}: [data.samples] {name} is {size}, expected a number of images {limits}"
            )
        if name not in families:
            raise ChecksError(
                f"{path}: [data.samples] {name}: there is no row of this family; "
                "correct or remove it"
            )


def _expect_different_ids(checks: Iterable[Check], path: Path) -> None:
    first_row: dict[str, int] = {}
    for number, check in enumerate(checks, start=1):
        first = first_row.setdefault(check.id, number)
        if first != number:
            raise ChecksError(
                f"{path}: check {number} ({check.id!r}): check {first} has this id already"
            )


def _records_of_features(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """Take features' tables with records out of the table of a file, and return their records.

    The record of a feature without a table is None.
    """
    records: dict[str, Any] = {}
    reserved_names = {item.name for item in fields(_Head)} | families_with_rows().keys()
    for name, kind in record_tables(reserved_names).items():
        plain = table.pop(name, None)
        records[name] = None
        if plain is not None:
            records[name] = read_record(kind(), plain, where=f"{path}: {name}", error=ChecksError)
    return records


def _expect_border(data: DataFingerprint, path: Path) -> None:
    """Raise `ChecksError` for an unknown border, or in another spelling than `border_of` gives."""
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
    if not isinstance(data, dict):
        data = {}
    samples = {"sample": data.get("sample", 1)}
    by_family = data.get("samples")
    if isinstance(by_family, dict):
        samples |= {f"samples: {family}": sample for family, sample in by_family.items()}

    for name, sample in samples.items():
        if isinstance(sample, dict):
            read_record(PanelSample, sample, where=f"{where}: {name}", error=ChecksError)
        else:
            read_record(int, sample, where=where, name=name, error=ChecksError)


def _check(row: Any, where: str, data: DataFingerprint) -> Check:
    """Return the check of a row; `where` names it in messages."""
    if not isinstance(row, dict):
        raise ChecksError(f"{where}: expected a table, found {row!r}")
    if "id" in row:
        where += f" ({str(row['id'])[:LONGEST]!r})"

    keys_of_test = {name: value for name, value in row.items() if name not in COMMON_KEYS}
    reserved = sorted(keys_of_test.keys() & RESERVED_KEYS)
    if reserved:
        known_keys = ", ".join(sorted(COMMON_KEYS))
        raise ChecksError(
            f"{where}: unknown key {reserved[0]!r}; known are {known_keys}, and what tests declare"
        )

    common = {name: value for name, value in row.items() if name in COMMON_KEYS}
    if "class" in common:
        common["class_name"] = common.pop("class")
    check = read_record(Check, {**common, "keys": keys_of_test}, where=where, error=ChecksError)
    _expect_valid(check, where)
    if check.by_conversions:
        check = replace(check, tolerance=None)

    metric = METRICS.get(check.metric)
    if metric is None:
        return check
    try:
        return check.with_metric(metric, images=data.by_hand_of(check.family))
    except ChecksError as error:
        raise ChecksError(f"{where}: {error}") from None


def _expect_valid(check: Check, where: str) -> None:
    if not is_id(check.id):
        raise ChecksError(
            f"{where}: id {check.id[:LONGEST]!r} must be of lower-case ASCII letters, digits, "
            f"dots and hyphens, at most {LONGEST} of them"
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
    """Return the error for the first value of a panel threshold that does not follow from its row.

    Empty if all follow, to the precision of the file.
    """
    panel = check.panel
    if panel is None:
        return ""

    smallest: dict[str, int | None] = {**_NUMBERS}
    if metric.scale == "root":
        smallest |= {"root_mean": None, "root_std": 0}
    smallest["definition"] = None
    for key, least in smallest.items():
        value = getattr(panel, key)
        if value in {None, ""} or (least is not None and value < least):
            return _departure(check, key, value, "the one that calibration writes")

    possible = _possible(check, metric)
    possible_numbers = [calibrated.written for calibrated in possible]
    for key in ("threshold", "minimum_detectable_drop"):
        values = [numbers[key] for numbers in possible_numbers]
        low, high = min(values), max(values)
        value = getattr(panel, key)
        if not low <= value <= high:
            expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            return _departure(check, key, value, expected)

    if check.informational.startswith((CONTRADICTED, AT_CHANCE)):
        return ""
    reasons = {calibrated.informational for calibrated in possible}
    if bool(check.informational) in {bool(reason) for reason in reasons}:
        return ""
    return _departure(check, "informational", check.informational, repr(max(reasons)))


def _departure(check: Check, key: str, value: object, expected: str) -> str:
    by_hand = ""
    if key == "threshold":
        by_hand = f', or declare it by hand: hand = {{ threshold = {value}, reason = "..." }}'
    return (
        f"check {check.id!r}: {key} of the panel threshold is {value!r}, expected {expected}, "
        f"by its own mean, std and k. Restore the row, "
        f"calibrate its family again (--family {check.family}){by_hand}"
    )


def _possible(check: Check, metric: Metric) -> list[Calibrated]:
    """Return the thresholds that calibration can have made, within the rounding of the file."""
    numbers = {key: getattr(check.panel, key) for key in (*_NUMBERS, "root_mean", "root_std")}
    models = numbers["reference_models"]
    unit = metric.unit
    path = PATHS.get(str(check.keys.get("path")))
    if path is not None and metric.name == BREAKING_SEVERITY.name:
        unit = Unit(path.unit)
    about = PanelCheck(
        check.id,
        check.family,
        metric.name,
        unit,
        metric.direction,
        numbers["n"],
        scale=metric.scale,
        of_loss=check.panel.of_loss if check.panel else 0.0,
    )

    means = _rounded_from(numbers["mean"], decimals(unit))
    centers = [(mean, mean) for mean in means]
    low, high = _rounded_from(numbers["std"], decimals(unit) + 1)
    if metric.scale == "root":
        centers = list(product(means, _rounded_from(numbers["root_mean"], ROOT_DECIMALS)))
        low, high = _rounded_from(numbers["root_std"], ROOT_DECIMALS)

    # No spread is negative; one that the file rounds to zero may be any from zero on.
    spreads = max(low, 0.0), high
    factors = _rounded_from(numbers["k"], K_DECIMALS)
    # The file does not store whether few models had a prior, so both are possible.
    priors = (False, True) if models < FEW else (False,)
    return [
        Calibrated(about, mean, numbers["std"], center, spread, factor, models, prior=prior)
        for (mean, center), spread, factor, prior in product(centers, spreads, factors, priors)
    ]


def _rounded_from(value: float, digits: int) -> tuple[float, float]:
    """Return the least and the largest number that the file rounds to this value."""
    half = HALF * 10**-digits
    return value - half, value + half
