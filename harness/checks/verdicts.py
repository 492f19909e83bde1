"""Verdicts: a plain comparison of a measurement with the threshold of a row, and what it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from harness.base.records import Unbounded, as_json, read_json, record
from harness.checks.roles import ROLES
from harness.checks.rows import Check, ChecksError, Threshold
from harness.measures import METRICS
from harness.measures.metric import Scale, Unit, packed

if TYPE_CHECKING:
    from harness.measures.metric import Measurement

NAMED = 60
"""How many failures a verdict names, for the report to choose from."""

_FEW = 10
"""Up to how many images a share is said to miss its threshold by images, beyond by points."""

Status = Literal["pass", "fail", "informational", "not_applicable", "error"]


def judge(check: Check, measurement: Measurement) -> Verdict:
    """Compare a measurement with a row's threshold.

    On other images than the threshold was made for, a sample or more of them, the model gets the benefit of the
    measurement's 95% interval; a count's threshold is scaled to their number. Raises `ChecksError` when the row is
    about another metric, or has a threshold that this metric cannot have, asks for a significance that the measurement
    does not have, or is to judge NaN.
    """
    metric = measurement.metric
    if check.metric not in {"", metric.name}:
        raise ChecksError(
            f"check {check.id}: the row holds a threshold on {check.metric!r}, the test measured {metric.name!r}; "
            "correct the row's metric or the test"
        )
    if not metric.is_case_of(METRICS.get(metric.name, metric)):
        raise ChecksError(
            f"check {check.id}: the test measured a metric {metric.name!r} that is another than the one known by this "
            "name; name yours otherwise"
        )
    if check.significance is not None and measurement.p_value is None:
        raise ChecksError(
            f"check {check.id}: the row asks for a significance, but {metric.name!r} compares no two models; "
            "remove `significance` from the row"
        )
    if math.isnan(measurement.value):
        raise ChecksError(
            f"check {check.id}: the test measured {metric.name!r} as NaN, expected a number; where there is "
            "nothing to measure, raise NotApplicableError"
        )
    try:
        check = check.measured_by(metric, images=round(measurement.n / check.share))
    except ChecksError as error:
        raise ChecksError(f"check {check.id}: {error}") from None
    threshold = check.binding
    if threshold is None:
        return _verdict(check, "informational", measurement, None)
    share = measurement.n / threshold.n if threshold.n else check.share
    limit = threshold.threshold * share if measurement.unit is Unit.IMAGES else threshold.threshold
    value = measurement.value
    if share != 1 or check.share != 1:  # As many images may be others.
        low, high = measurement.interval
        value = high if check.direction == "at_least" else low
    holds = check.holds(value, limit)
    if check.significance is not None and measurement.p_value is not None:
        holds = holds or measurement.p_value >= check.significance
    status: Status = "pass" if holds else ("error" if ROLES[check.role].precondition else "fail")
    return _verdict(check, status, measurement, limit)


def _verdict(check: Check, status: Status, measurement: Measurement, against: float | None) -> Verdict:
    return Verdict(
        check=check,
        status=status,
        value=measurement.value,
        threshold=against,
        n=measurement.n,
        interval=measurement.interval,
        unit=measurement.unit,
        metric=measurement.metric.name,
        about=measurement.metric.words,
        scale=measurement.metric.scale,
        detail=measurement.detail,
        failures=tuple(int(position) for position in measurement.failures[:NAMED]),
        flips=measurement.flips.as_json() if measurement.flips else None,
        each=packed(measurement.each) if check.recorded and measurement.each is not None else "",
        rest=measurement.rest if check.recorded else None,
    )


@record
class Verdict:
    """What a check says of one measurement."""

    check: Check
    status: Status
    metric: str
    detail: str = ""
    value: Unbounded | None = None
    threshold: int | float | None = None
    n: int = 0
    interval: tuple[Unbounded, Unbounded] | None = None
    unit: Unit = Unit.SHARE
    about: str = ""
    """What the metric says, in words."""
    scale: Scale = "plain"
    failures: tuple[int, ...] = ()
    """Positions, among the images measured, of the most telling failures."""
    flips: dict[str, Any] | None = None
    """What changed since the model before, see `Flips.as_json`."""
    lacking: bool = False
    """Whether it is not applicable for want of what reference models know."""
    each: str = ""
    """For calibration: what each image contributes, see `packed`, and the value at rest."""
    rest: Unbounded | None = None

    @property
    def passed(self) -> bool:
        """Return whether the test may pass: the threshold holds, or there is none to hold."""
        return self.status in {"pass", "informational", "not_applicable"}

    @property
    def judged(self) -> bool:
        """Return whether a threshold was held against the measurement."""
        return self.status in {"pass", "fail"}

    @property
    def numbers(self) -> tuple[str, str]:
        """Return value and limit as plain numbers, in as many digits as it takes to tell them apart; empty for none."""
        if self.value is None or self.threshold is None:
            return "" if self.value is None else self._number(self.value), ""
        return self.unit.told_apart(self.value, self.threshold, plain=4)

    @property
    def missed(self) -> str:
        """Return by how much a failing check misses its threshold, such as 38.2 points or 1 image of 10,000."""
        if self.passed or self.value is None or self.threshold is None:
            return ""
        gap = abs(self.value - self.threshold)
        counts = self.unit is Unit.IMAGES or (self.unit is Unit.SHARE and _is_share_of_images(self.value, self.n))
        images = math.ceil(gap * (1 if self.unit is Unit.IMAGES else self.n) - 1e-6) if counts else 0
        if self.unit is Unit.IMAGES or 0 < images <= _FEW:
            return f"{images:,} image{'' if images == 1 else 's'} of {self.n:,}"
        unit = Unit.DIFFERENCE if self.unit is Unit.SHARE else self.unit
        return unit.told_apart(gap, 0.0)[0].removeprefix("+")

    def is_worse_than(self, other: Verdict) -> bool:
        """Return whether this measurement lies farther on the bad side than another of the same gate."""
        if self.value is None or other.value is None:
            return False
        return self.value > other.value if self.check.direction == "at_most" else self.value < other.value

    def explain(self, report: str = "") -> str:
        """Say in one line what was measured, against what, on how many images; `report` is where the pictures are."""
        check, metric = self.check, self.metric.replace("_", " ")
        if self.value is None:
            return f"{check.id}: {self.status.replace('_', ' ')}: {self.detail}"
        value, must_be = self.numbers
        threshold, missed, held = ("threshold", ">", "<=") if check.direction == "at_most" else ("threshold", "<", ">=")
        if self.threshold is None:
            relation = f"(informational: {check.informational or self._how_to_gate(threshold)})"
        elif self.status == "pass" and not check.holds(self.value, self.threshold):
            why = "chance may explain" if check.significance else "its interval allows on other images"
            relation = f"beyond {threshold} {must_be}, which {why}"
        else:
            relation = f"{held if self.status == 'pass' else missed} {threshold} {must_be}"
        low, high = self.interval or (math.nan, math.nan)
        facts = f"n={self.n}, 95% CI {self._number(low)} to {self._number(high)}"
        reference = check.reference
        if reference and reference.mean is not None and reference.std is not None:
            spread = self._number(reference.std) if self.unit is not Unit.IMAGES else f"{reference.std:.1f}"
            facts += f"; {_reference_models(reference)} {self._number(reference.mean)} ± {spread}"
        if check.hand and self.threshold is not None:
            facts += f"; {threshold} set by hand"
        parts = [f"{check.id}: {metric} {value} {relation} ({facts})", self.detail]
        if ROLES[check.role].precondition and self.status == "error":
            parts.append(f"the {check.role} itself is not what it should be, so nothing can be judged against it")
        parts.append(f"pictures in {report}#{check.id}" if report else "")
        return "; ".join(part for part in parts if part)

    def _how_to_gate(self, threshold: str) -> str:
        if self.check.role != "candidate":
            return f"no {threshold}"
        return f"no {threshold} yet, `stress-harness calibrate --family {self.check.family}` makes one"

    def _number(self, value: float) -> str:
        return self.unit.format(value, decimals=4)

    def as_wire(self) -> str:
        """Return the verdict as JSON, as it travels from a worker to the controller."""
        return as_json(self)

    @staticmethod
    def from_wire(wire: str) -> Verdict:
        """Return the verdict that `as_wire` sent."""
        return read_json(Verdict, wire, where="a worker's verdict")

    def as_json(self) -> dict[str, Any]:
        """Return the gate's entry in `stress.json`."""
        threshold, reference = self.check.binding, self.check.reference
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
            "provenance": None if threshold is None else ("hand" if self.check.hand else "panel"),
            "status": self.status,
            "detail": self.detail,
            "unit": self.unit.value,
            "reference_mean": reference and reference.mean,
            "reference_std": reference and reference.std,
            "minimum_detectable_drop": reference and reference.minimum_detectable_drop,
            "explanation": self.explain(),
            **({} if self.scale == "plain" else {"scale": self.scale}),
            **({} if self.flips is None else {"flips": self.flips}),
            **({"each": self.each, "rest": self.rest} if self.each else {}),
        }


def _reference_models(reference: Threshold) -> str:
    """Say of how many retrains a mean and a spread are, as far as that is known."""
    return (
        f"{reference.reference_models} reference model{'' if reference.reference_models == 1 else 's'}"
        if reference.reference_models
        else "reference_models"
    )


def _is_share_of_images(value: float, n: int) -> bool:
    """Return whether a share can be one of `n` images, which a mean of scores hardly ever is."""
    return abs(value * n - round(value * n)) < 1e-6  # noqa: PLR2004  What rounding leaves.
