"""Verdicts: a plain comparison of a measurement with the bound of a row, and what it says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from harness.gates.roles import ROLES
from harness.gates.rows import Bound, Gate, GatesError
from harness.measures import METRICS
from harness.measures.metric import Scale, Unit, packed
from harness.store.records import Unbounded, as_json, read_json, record

if TYPE_CHECKING:
    from harness.measures.metric import Measurement

NAMED = 60
"""How many failures a verdict names, for the report to choose from."""

_FEW = 10
"""Up to how many images a share is said to miss its bound by images, beyond by points."""

Status = Literal["pass", "fail", "not_gated", "not_applicable", "error"]


def judge(gate: Gate, measurement: Measurement) -> Verdict:
    """Compare a measurement with a row's bound.

    On other images than the bound was made for, a sample or more of them, the model gets the benefit of the
    measurement's 95% interval; a count's bound is scaled to their number. Raises `GatesError` when the row is about
    another metric, or has a bound that this metric cannot have, asks for a significance that the measurement does not
    have, or is to judge NaN.
    """
    metric = measurement.metric
    if gate.metric not in {"", metric.name}:
        raise GatesError(
            f"gate {gate.id}: the row holds a bound on {gate.metric!r}, the test measured {metric.name!r}; "
            "correct the row's metric or the test"
        )
    if not metric.is_case_of(METRICS.get(metric.name, metric)):
        raise GatesError(
            f"gate {gate.id}: the test measured a metric {metric.name!r} that is another than the one known by this "
            "name; name yours otherwise"
        )
    if gate.significance is not None and measurement.p_value is None:
        raise GatesError(
            f"gate {gate.id}: the row asks for a significance, but {metric.name!r} compares no two models; "
            "remove `significance` from the row"
        )
    if math.isnan(measurement.value):
        raise GatesError(
            f"gate {gate.id}: the test measured {metric.name!r} as NaN, expected a number; where there is "
            "nothing to measure, raise NotApplicableError"
        )
    try:
        gate = gate.measured_by(metric, images=round(measurement.n / gate.share))
    except GatesError as error:
        raise GatesError(f"gate {gate.id}: {error}") from None
    bound = gate.threshold
    if bound is None:
        return _verdict(gate, "not_gated", measurement, None)
    share = measurement.n / bound.n if bound.n else gate.share
    limit = bound.bound * share if measurement.unit is Unit.IMAGES else bound.bound
    value = measurement.value
    if share != 1 or gate.share != 1:  # As many images may be others.
        low, high = measurement.interval
        value = high if gate.direction == "at_least" else low
    holds = gate.holds(value, limit)
    if gate.significance is not None and measurement.p_value is not None:
        holds = holds or measurement.p_value >= gate.significance
    status: Status = "pass" if holds else ("error" if ROLES[gate.role].precondition else "fail")
    return _verdict(gate, status, measurement, limit)


def _verdict(gate: Gate, status: Status, measurement: Measurement, against: float | None) -> Verdict:
    return Verdict(
        gate=gate,
        status=status,
        value=measurement.value,
        limit=against,
        n=measurement.n,
        interval=measurement.interval,
        unit=measurement.unit,
        metric=measurement.metric.name,
        about=measurement.metric.words,
        scale=measurement.metric.scale,
        detail=measurement.detail,
        failures=tuple(int(position) for position in measurement.failures[:NAMED]),
        flips=measurement.flips.as_json() if measurement.flips else None,
        each=packed(measurement.each) if gate.recorded and measurement.each is not None else "",
        rest=measurement.rest if gate.recorded else None,
    )


@record
class Verdict:
    """What a gate says of one measurement."""

    gate: Gate
    status: Status
    metric: str
    detail: str = ""
    value: Unbounded | None = None
    limit: int | float | None = None
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
    """Whether it is not applicable for want of what healthy retrains know."""
    each: str = ""
    """For calibration: what each image contributes, see `packed`, and the value at rest."""
    rest: Unbounded | None = None

    @property
    def passed(self) -> bool:
        """Return whether the test may pass: the bound holds, or there is none to hold."""
        return self.status in {"pass", "not_gated", "not_applicable"}

    @property
    def judged(self) -> bool:
        """Return whether a bound was held against the measurement."""
        return self.status in {"pass", "fail"}

    @property
    def numbers(self) -> tuple[str, str]:
        """Return value and limit as plain numbers, in as many digits as it takes to tell them apart; empty for none."""
        if self.value is None or self.limit is None:
            return "" if self.value is None else self._number(self.value), ""
        return self.unit.told_apart(self.value, self.limit, plain=4)

    @property
    def missed(self) -> str:
        """Return by how much a failing gate misses its bound, such as 38.2 points or 1 image of 10,000; else empty."""
        if self.passed or self.value is None or self.limit is None:
            return ""
        gap = abs(self.value - self.limit)
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
        return self.value > other.value if self.gate.direction == "at_most" else self.value < other.value

    def explain(self, report: str = "") -> str:
        """Say in one line what was measured, against what, on how many images; `report` is where the pictures are."""
        gate, metric = self.gate, self.metric.replace("_", " ")
        if self.value is None:
            return f"{gate.id}: {self.status.replace('_', ' ')}: {self.detail}"
        value, must_be = self.numbers
        bound, missed, held = ("ceiling", ">", "<=") if gate.direction == "at_most" else ("floor", "<", ">=")
        if self.limit is None:
            relation = f"(reported only: {gate.not_gated or self._how_to_gate(bound)})"
        elif self.status == "pass" and not gate.holds(self.value, self.limit):
            why = "chance may explain" if gate.significance else "its interval allows on other images"
            relation = f"beyond {bound} {must_be}, which {why}"
        else:
            relation = f"{held if self.status == 'pass' else missed} {bound} {must_be}"
        low, high = self.interval or (math.nan, math.nan)
        facts = f"n={self.n}, 95% CI {self._number(low)} to {self._number(high)}"
        healthy = gate.healthy
        if healthy and healthy.mean is not None and healthy.std is not None:
            spread = self._number(healthy.std) if self.unit is not Unit.IMAGES else f"{healthy.std:.1f}"
            facts += f"; {_retrains(healthy)} {self._number(healthy.mean)} ± {spread}"
        if gate.hand and self.limit is not None:
            facts += f"; {bound} set by hand"
        parts = [f"{gate.id}: {metric} {value} {relation} ({facts})", self.detail]
        if ROLES[gate.role].precondition and self.status == "error":
            parts.append(f"the {gate.role} itself is not what it should be, so nothing can be judged against it")
        parts.append(f"pictures in {report}#{gate.id}" if report else "")
        return "; ".join(part for part in parts if part)

    def _how_to_gate(self, bound: str) -> str:
        if self.gate.role != "candidate":
            return f"no {bound}"
        return f"no {bound} yet, `stress-harness calibrate --family {self.gate.family}` makes one"

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
        threshold, healthy = self.gate.threshold, self.gate.healthy
        return {
            "id": self.gate.id,
            "role": self.gate.role,
            "family": self.gate.family,
            "metric": self.metric,
            "value": self.value,
            "bound": self.limit,
            "direction": self.gate.direction or "at_least",
            "n": self.n,
            "interval": None if self.interval is None else list(self.interval),
            "provenance": None if threshold is None else ("hand" if self.gate.hand else "panel"),
            "status": self.status,
            "detail": self.detail,
            "unit": self.unit.value,
            "healthy_mean": healthy and healthy.mean,
            "healthy_std": healthy and healthy.std,
            "detects": healthy and healthy.detects,
            "explanation": self.explain(),
            **({} if self.scale == "plain" else {"scale": self.scale}),
            **({} if self.flips is None else {"flips": self.flips}),
            **({"each": self.each, "rest": self.rest} if self.each else {}),
        }


def _retrains(healthy: Bound) -> str:
    """Say of how many retrains a mean and a spread are, as far as that is known."""
    return f"{healthy.retrains} retrain{'' if healthy.retrains == 1 else 's'}" if healthy.retrains else "retrains"


def _is_share_of_images(value: float, n: int) -> bool:
    """Return whether a share can be one of `n` images, which a mean of scores hardly ever is."""
    return abs(value * n - round(value * n)) < 1e-6  # noqa: PLR2004  What rounding leaves.
