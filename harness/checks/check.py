"""One check of the checks file with its threshold, and its verdict on a measurement, a plain comparison."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import asdict, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.base.records import Unbounded, as_plain, read_record, record
from harness.checks.keys import Key
from harness.checks.roles import ROLES
from harness.measures import METRICS
from harness.measures.changed_predictions import OF_ORIGINAL
from harness.measures.equivalence import CONFIDENCE, outcome_in_words, outcome_of
from harness.measures.metric import Curve, Direction, Scale, Unit, packed
from harness.measures.serving import OF_SERVING
from harness.perturb.poses import IDENTITY, Pose

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.measures.equivalence import Outcome
    from harness.measures.metric import Measurement, Metric

T = TypeVar("T")

LONGEST = 200
"""Characters of the longest id."""
NAMED = 60
"""Number of failures that a verdict names; the report chooses from them."""
_FEW = 10
"""Number of images up to which a verdict gives a distance from the threshold in images; above, in points."""

Status = Literal["pass", "fail", "inconclusive", "informational", "not_applicable", "error"]
STATUSES: tuple[Status, ...] = ("error", "fail", "inconclusive", "pass", "informational", "not_applicable")
"""The statuses, the gravest first: if one check has several verdicts, that counts."""


def is_id(name: str) -> bool:
    """Return whether a checks file accepts this as the id of a check."""
    return len(name) <= LONGEST and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name) is not None


def id_without_check(family: str, metric: str = "") -> str:
    """Return the id of a test without a check: `slight-tilt` for the family `slight_tilt`."""
    return "-".join(filter(None, (family, metric))).replace("_", "-").lower()


class ChecksError(InputError):
    """A checks file that cannot be used; the message names file and check."""

    code = Code.CHECKS


def _known(role: str) -> str:
    if role not in ROLES:
        raise PydanticCustomError("role", "one of {known}", {"known": ", ".join(ROLES)})
    return role


@record
class Threshold:
    """A threshold and its provenance: mean and standard deviation of `reference_models` networks of other seeds.

    The threshold is for `n` images, by default for all images of the data. A calibrated threshold lies `k` standard
    deviations of prediction from the mean. With 95% power it detects a loss of `minimum_detectable_drop`, in the unit
    of the metric. `definition` is the beginning of the check's own at the time of calibration. If `conversions` names a
    command, that command converted the reference models, and each conversion was compared with its original.
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
    """Mean of 2 sqrt(x + 3/8), for a metric with a threshold on that scale; `root_std` is its standard deviation."""
    root_std: int | float | None = None
    conversions: str = ""


@record
class Check:
    """One check of the checks file: a case of a family, and the threshold for its measurement.

    `role` names the model that the check measures. `direction` is the good side of the threshold, by default that of
    the metric. A family's test decides what `pose`, `class_name` and its own `keys` mean. A check is informational if
    it has no threshold, or if `informational` gives a reason to ignore the panel's. A comparison of two models fails
    only if its p-value is below `significance`. A `tolerance` limits a distance from the original. The check passes if
    the upper 99% bound lies within it, and fails if the lower one lies beyond it. Else it is inconclusive.
    """

    id: str
    family: str
    metric: str
    direction: Direction | None = None
    role: Annotated[str, AfterValidator(_known)] = "candidate"
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
    share: float = 1.0
    """Share of the images that the thresholds were made for, in (0, 1]; set by a sampled run."""
    recorded: bool = False
    """True during calibration, which needs the contribution of each image."""
    sharing: int = 1
    """Number of checks with a tolerance in the file; they share the probability of a wrong verdict."""
    definition: str = ""
    """Hash of the measurement that the file defines for the check, without its thresholds."""

    def __post_init__(self) -> None:
        if not self.definition:
            object.__setattr__(self, "definition", _definition(self))

    def __getitem__(self, key: Key[T]) -> T | None:
        """Return the value of a key that the stress test declares, None if the check leaves it out."""
        if key.name not in self.keys:
            raise ChecksError(
                f"check {self.id}: the test reads the key {key.name!r} and does not declare it; add its Key to "
                f'@check("{self.family}", ...)'
            )
        value: T | None = self.keys[key.name]
        return value

    def with_keys(self, declared: Sequence[Key[Any]], *, path: Path, test: str) -> Check:
        """Return the check with the values of the keys that its test declares; a key left out is None.

        Raises `ChecksError`, which names file, check and test, for an undeclared key and for a value of another type.
        """
        where = f"{path}: check {self.id!r} of {test}"
        if unknown := sorted(set(self.keys) - {key.name for key in declared}):
            names = ", ".join(sorted(key.name for key in declared)) or "none"
            raise ChecksError(
                f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(COMMON_KEYS))}, and those that the "
                f"test declares: {names}"
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
        """Return the threshold that counts: one by hand, or a tolerance, wins over the panel's; None without one."""
        return self.hand or self._tolerated or (None if self.informational else self.panel)

    @property
    def _tolerated(self) -> Threshold | None:
        if self.tolerance is None or (self.metric in OF_SERVING and self.panel and not self.informational):
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
        """Return whether the threshold that counts comes from conversions; it then replaces a tolerance."""
        return bool(self.panel and self.panel.conversions and not self.informational and self.hand is None)

    @property
    def provenance(self) -> str | None:
        """Return where the threshold that counts comes from: hand, panel or conversions; None without one."""
        if self.binding is None:
            return None
        return "hand" if self.by_hand else "conversions" if self.by_conversions else "panel"

    @property
    def reference(self) -> Threshold | None:
        """Return the panel's threshold, binding or not, or else the one by hand; None without either."""
        return self.panel or self.by_hand

    def holds(self, value: float, limit: float) -> bool:
        """Return whether the value is on the good side of the limit."""
        return value <= limit if self.direction == "at_most" else value >= limit

    def with_metric(self, metric: Metric, *, images: int) -> Check:
        """Return the check with the direction of its metric; `images` is the number that the thresholds are for.

        Raises `ChecksError` for another direction, for a threshold outside the metric's range, and for one by hand that
        no measurement can fail.
        """
        if self.direction not in {None, metric.direction}:
            raise ChecksError(
                f'for {metric.name}, {metric.better} is better; write direction = "{metric.direction}", or leave it out'
            )
        check = replace(self, direction=metric.direction)
        low, high = metric.range
        for threshold in filter(None, (check.by_hand, check.panel)):
            if not low <= threshold.threshold <= high or not math.isfinite(threshold.threshold):
                raise ChecksError(
                    f"threshold {threshold.threshold} is outside the range of {metric.name}, {low} to {high}"
                )
        if check.hand and check.holds(metric.worst(images), check.hand.threshold):
            raise ChecksError(
                f"no {metric.name} is beyond {check.hand.threshold}, so the check cannot fail; change the threshold, "
                "or remove it: the check is then informational"
            )
        return check

    def judge(self, measurement: Measurement) -> Verdict:
        """Compare a measurement with the threshold.

        A run may measure other images than the threshold is for, for example a sample. Then the better end of the 95%
        interval counts, and the threshold of a count is scaled. Raises `ChecksError` for a check on another metric, a
        threshold outside the metric's range, a significance without a p-value, and NaN.
        """
        metric = measurement.metric
        if self.metric not in {"", metric.name}:
            raise ChecksError(
                f"check {self.id}: the check holds a threshold on {self.metric!r}, the test measured {metric.name!r}; "
                "correct the check's metric or the test"
            )
        if not metric.is_case_of(METRICS.get(metric.name, metric)):
            raise ChecksError(
                f"check {self.id}: the test measured a metric {metric.name!r}, but this is the name of another, known "
                "metric; choose another name for yours"
            )
        if self.significance is not None and measurement.p_value is None:
            raise ChecksError(
                f"check {self.id}: the check asks for a significance, but {metric.name!r} compares no two models; "
                "remove `significance` from the check"
            )
        if math.isnan(measurement.value):
            raise ChecksError(
                f"check {self.id}: the test measured {metric.name!r} as NaN, expected a number; where there is "
                "nothing to measure, raise NotApplicableError"
            )
        try:
            check = self.with_metric(metric, images=round(measurement.n / self.share))
        except ChecksError as error:
            raise ChecksError(f"check {self.id}: {error}") from None
        threshold = check.binding
        if threshold is None:
            return check._verdict("informational", measurement, None)
        if check.tolerance is not None and check._tolerated is not None:
            return check._held_to_tolerance(measurement, check.tolerance)
        share = measurement.n / threshold.n if threshold.n else check.share
        limit = threshold.threshold * share if measurement.unit is Unit.IMAGES else threshold.threshold
        value = measurement.value
        if share != 1 or check.share != 1:  # Even with equal numbers, the images may differ.
            low, high = measurement.interval
            value = high if check.direction == "at_least" else low
        holds = check.holds(value, limit)
        if check.significance is not None and measurement.p_value is not None:
            holds = holds or measurement.p_value >= check.significance
        status: Status = "pass" if holds else ("error" if ROLES[check.role].precondition else "fail")
        verdict = check._verdict(status, measurement, limit)
        return replace(verdict, code=Code.BASELINE) if status == "error" else verdict

    def _held_to_tolerance(self, measurement: Measurement, tolerance: float) -> Verdict:
        """Return the verdict by exact bounds: equal passes, different fails, and anything else is inconclusive."""
        if measurement.quantity is None:
            raise ChecksError(
                f"check {self.id}: {measurement.metric.name!r} is no distance from an original, so the check cannot "
                "have a tolerance; give it a threshold by hand"
            )
        level = (1 - CONFIDENCE) / self.sharing
        outcome = outcome_of(measurement.quantity, tolerance, level=level)
        statuses: dict[Outcome, Status] = {
            "equal": "pass",
            "different": "fail",
            "inconclusive": "inconclusive",
            "informational": "informational",
        }
        said = outcome_in_words(
            measurement.quantity,
            tolerance,
            outcome,
            written=lambda value: measurement.unit.told_from(value, tolerance),
            level=level,
        )
        detail = "; ".join(filter(None, (measurement.detail, said)))
        limit = None if outcome == "informational" else tolerance
        return self._verdict(statuses[outcome], replace(measurement, detail=detail), limit)

    def _verdict(self, status: Status, measurement: Measurement, threshold: float | None) -> Verdict:
        return Verdict(
            check=self,
            status=status,
            value=measurement.value,
            threshold=threshold,
            n=measurement.n,
            counted=measurement.counted,
            interval=measurement.interval,
            unit=measurement.unit,
            metric=measurement.metric.name,
            about=measurement.metric.words,
            scale=measurement.metric.scale,
            detail=measurement.detail,
            failures=tuple(int(position) for position in measurement.failures[:NAMED]),
            flips=measurement.flips.as_json() if measurement.flips else None,
            each=packed(measurement.each) if self.recorded and measurement.each is not None else "",
            rest=measurement.rest if self.recorded else None,
            curve=measurement.curve,
        )

    def unjudged(self, status: Literal["not_applicable", "error"], detail: str, *, code: str = "") -> Verdict:
        """Return the verdict of a check without a measurement; an error has the code of its reason."""
        return Verdict(check=self, status=status, metric=self.metric, detail=detail, code=code)


COMMON_KEYS = frozenset({"class", *(item.name for item in fields(Check))}) - {
    *("class_name", "keys", "words", "share", "definition", "recorded", "sharing"),
}
"""Keys that every check may have; a family's test declares the others."""


def declared_keys(keys: Sequence[object], *, test: str) -> tuple[Key[Any], ...]:
    """Return the keys that a test declares; raises `ChecksError`, which names the test, for an invalid one."""
    declared: list[Key[Any]] = []
    for key in keys:
        if not isinstance(key, Key):
            raise ChecksError(f'{test} declares {key!r}; expected a key such as Key("strength", float)')
        if key.name in {*COMMON_KEYS, *(item.name for item in fields(Check))}:
            raise ChecksError(
                f"{test} declares a key {key.name!r}, but every check has something of this name; choose another name"
            )
        if key.name in {each.name for each in declared}:
            raise ChecksError(f"{test} declares the key {key.name!r} twice; remove one")
        declared.append(key)
    return tuple(declared)


def _definition(check: Check) -> str:
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
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()


@record
class Verdict:
    """The verdict of a check on one measurement."""

    check: Check
    status: Status
    metric: str
    detail: str = ""
    value: Unbounded | None = None
    threshold: int | float | None = None
    n: int = 0
    counted: int | None = None
    """Number of images that value and interval count, if not all n."""
    interval: tuple[Unbounded, Unbounded] | None = None
    unit: Unit = Unit.SHARE
    about: str = ""
    """The measurement, as text."""
    scale: Scale = "plain"
    failures: tuple[int, ...] = ()
    """Positions of the most telling failures among the images measured."""
    flips: dict[str, Any] | None = None
    """Changed predictions between two models, see `Flips.as_json`."""
    lacking: bool = False
    """True if the check is not applicable because panel predictions are missing."""
    without: str = ""
    """The role without a model, if the check is not applicable because of it."""
    each: str = ""
    """For calibration: the contribution of each image, see `packed`; `rest` is the clean value."""
    rest: Unbounded | None = None
    curve: Curve | None = None
    """The curve behind the value, if a figure draws it."""
    code: str = ""
    """The code of an error, see `harness.base.codes`."""

    @property
    def passed(self) -> bool:
        """Return whether the test passes: the measurement keeps its threshold, or no threshold applies."""
        return self.status in {"pass", "informational", "not_applicable"}

    @property
    def judged(self) -> bool:
        """Return whether the measurement was compared with a threshold."""
        return self.status in {"pass", "fail"}

    @property
    def excused(self) -> str:
        """Return why the check passes although its value lies beyond the threshold; else an empty text."""
        if self.status != "pass" or self.value is None or self.threshold is None:
            return ""
        if self.check.holds(self.value, self.threshold):
            return ""
        if self.check.significance is None:
            return "the 95% interval reaches the threshold"
        p = f"p = {self.flips['mcnemar_p']:.2g}, " if self.flips else ""
        return f"not significant ({p}fails below {self.check.significance:g})"

    @property
    def out_of(self) -> int:
        """Return the number of images that value and interval count."""
        return self.n if self.counted is None else self.counted

    @property
    def limit(self) -> float | None:
        """Return the threshold as reports show it: for counts of images, the last whole number that holds."""
        if self.threshold is None or self.unit is not Unit.IMAGES or self.value is None or self.value % 1:
            return self.threshold
        return math.floor(self.threshold) if self.check.direction == "at_most" else math.ceil(self.threshold)

    @property
    def numbers(self) -> tuple[str, str]:
        """Return value and threshold as text, with enough digits to tell them apart; empty for a missing one."""
        if self.value is None or self.limit is None:
            return "" if self.value is None else self._number(self.value), ""
        return self.unit.told_apart(self.value, self.limit, plain=4)

    @property
    def missed(self) -> str:
        """Return the distance of a failing check from its threshold, such as 38.2 points or 1 image of 10,000."""
        if self.passed or self.status == "inconclusive" or self.value is None or self.threshold is None:
            return ""
        gap = abs(self.value - self.threshold)
        counts = self.unit is Unit.IMAGES or (self.unit is Unit.SHARE and _is_share_of_images(self.value, self.out_of))
        images = math.ceil(gap * (1 if self.unit is Unit.IMAGES else self.out_of) - 1e-6) if counts else 0
        if self.unit is Unit.IMAGES or 0 < images <= _FEW:
            return f"{images:,} image{'' if images == 1 else 's'} of {self.out_of:,}"
        unit = Unit.DIFFERENCE if self.unit is Unit.SHARE else self.unit
        return unit.told_apart(gap, 0.0)[0].removeprefix("+")

    def outranks(self, other: Verdict) -> bool:
        """Return whether this verdict replaces another of the same check: the graver, or at equal gravity the worse."""
        if self.status != other.status or self.value is None or other.value is None:
            return STATUSES.index(self.status) < STATUSES.index(other.status)
        return self.value > other.value if self.check.direction == "at_most" else self.value < other.value

    def explain(self, report: str = "") -> str:
        """Return one line with value, threshold, number of images and interval; `report` is the page with pictures."""
        check, metric = self.check, self.metric.replace("_", " ")
        if self.value is None:
            return f"{check.id}: {self.status.replace('_', ' ')}: {self.detail}"
        value, must_be = self.numbers
        missed, held = (">", "<=") if check.direction == "at_most" else ("<", ">=")
        if self.threshold is None:
            relation = f"(informational: {check.informational or self._how_to_calibrate()})"
        elif self.status == "inconclusive":
            relation = f"is inconclusive at tolerance {must_be}"
        elif self.status == "pass" and not check.holds(self.value, self.threshold):
            why = "not significant" if check.significance else "within the 95% interval on other images"
            relation = f"beyond threshold {must_be}, {why}"
        else:
            relation = f"{held if self.status == 'pass' else missed} threshold {must_be}"
        low, high = self.interval or (math.nan, math.nan)
        n = f"{self.n}" if self.out_of == self.n else f"{self.out_of} of {self.n}"
        facts = f"n={n}, 95% CI {self._number(low)} to {self._number(high)}"
        reference = check.reference
        if reference and reference.mean is not None and reference.std is not None:
            spread = self._number(reference.std) if self.unit is not Unit.IMAGES else f"{reference.std:.1f}"
            facts += f"; {_reference_models(reference)} {self._number(reference.mean)} ± {spread}"
        if check.by_hand and self.threshold is not None:
            facts += f"; {'tolerance' if check.is_tolerance else 'threshold'} set by hand"
        parts = [f"{check.id}: {metric} {value} {relation} ({facts})", self.detail]
        if ROLES[check.role].precondition and self.status == "error":
            parts.append(f"the {check.role} fails its own check, so no model can be compared with it")
        parts.append(f"pictures in {report}#{check.id}" if report else "")
        return "; ".join(part for part in parts if part)

    def _how_to_calibrate(self) -> str:
        if self.check.role != "candidate":
            return "no threshold"
        how = "--convert COMMAND" if self.metric in OF_ORIGINAL else f"--family {self.check.family}"
        return f"no threshold yet, `stress-harness calibrate {how}` makes one"

    def _number(self, value: float) -> str:
        return self.unit.format(value, decimals=4)

    def as_json(self) -> dict[str, Any]:
        """Return the check's entry in `stress.json`."""
        reference = self.check.reference
        return {
            "id": self.check.id,
            "role": self.check.role,
            "family": self.check.family,
            "metric": self.metric,
            "value": self.value,
            "threshold": self.threshold,
            "direction": self.check.direction or "at_least",
            "n": self.n,
            "interval": None if self.interval is None else list(self.interval),
            "provenance": self.check.provenance,
            "status": self.status,
            "detail": self.detail,
            "unit": self.unit.value,
            "reference_mean": reference and reference.mean,
            "reference_std": reference and reference.std,
            "minimum_detectable_drop": reference and reference.minimum_detectable_drop,
            "explanation": self.explain(),
            **({"code": self.code} if self.code else {}),
            **({} if self.counted is None else {"counted": self.counted}),
            **({} if self.scale == "plain" else {"scale": self.scale}),
            **({} if self.flips is None else {"flips": self.flips}),
            **({"each": self.each, "rest": self.rest} if self.each else {}),
            **({"curve": as_plain(self.curve)} if self.curve else {}),
        }


def _reference_models(reference: Threshold) -> str:
    count = reference.reference_models
    models = f"{count} reference model{'' if count == 1 else 's'}" if count else "reference models"
    return f"conversions of {models}" if reference.conversions else models


def _is_share_of_images(value: float, n: int) -> bool:
    return abs(value * n - round(value * n)) < 1e-6  # noqa: PLR2004  A tolerance for rounding.
