"""Gates and the verdicts they give: a plain comparison of a measurement with a bound."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import InputError
from harness.perturb import IDENTITY, Pose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.measures import Measurement

NAMED = 60
"""How many failures a verdict names, for the report to choose from."""

Direction = Literal["at_least", "at_most"]
Role = Literal["candidate", "baseline", "incumbent"]
Status = Literal["pass", "fail", "not_gated", "not_applicable", "error"]


class GatesError(InputError):
    """A gates file that cannot be used; the message names file and row."""


_BOUNDS = ("hand", "panel", "not_gated", "share")
_ADDED = ("answers", "background", "strength", "corruption", "severity")
"""Keys that rows did not always know: where they are not set, what was measured before they came still holds."""


@dataclass(frozen=True)
class Bound:
    """A threshold and where it comes from; the healthy values are those of `retrains` networks of other seeds.

    It was made for `n` images, by default all of the data's. A calibrated bound lies `k` standard deviations of
    prediction off the mean, and notices a loss of `detects`, in the unit of the metric, with 95% power.
    """

    bound: float
    reason: str = ""
    mean: float | None = None
    std: float | None = None
    retrains: int | None = None
    k: float | None = None
    detects: float | None = None
    n: int | None = None
    date: str = ""


@dataclass(frozen=True)
class Gate:
    """One row of the gates file: a case of a family, and the bound that its measurement must keep.

    `role` is the model under the bound. What a family's test does with `pose`, `class_name`, `pair` (true and predicted
    class, either way), `confidence` (in [0, 1]), `within` (a pose that limits each axis), `grid` and `path` (names of
    poses in `harness.inference.search`), `share_broken` (in [0, 1]), `answers` ("wrong": of these alone), `background` (a name in
    `harness.perturb.backgrounds`), `strength` (of it, in [0, 1]), `corruption` (a name in `harness.perturb.corruptions`) and
    `severity` (of it, from 1 to 5) is the test's business. A row without bound is reported only, and so is one whose
    panel bound is switched off by `not_gated`, which says why. A comparison of two models beyond its bound fails only
    when chance explains it with a probability below `significance`.
    """

    id: str
    family: str
    metric: str
    direction: Direction = "at_least"
    role: Role = "candidate"
    pose: Pose = IDENTITY
    class_name: str | None = None
    pair: tuple[str, str] | None = None
    confidence: float | None = None
    within: Pose | None = None
    grid: str | None = None
    path: str | None = None
    share_broken: float | None = None
    answers: str | None = None
    background: str | None = None
    strength: float | None = None
    corruption: str | None = None
    severity: int | None = None
    significance: float | None = None
    not_gated: str = ""
    hand: Bound | None = None
    panel: Bound | None = None
    share: float = 1.0
    """Share of the images that the bounds were made for, in (0, 1]; set by a sampled run."""

    @property
    def threshold(self) -> Bound | None:
        """Return the bound that counts: a hand bound wins over the panel's."""
        return self.hand or (None if self.not_gated else self.panel)

    @property
    def healthy(self) -> Bound | None:
        """Return the bound that knows what healthy models reach: the panel's, if any, whether it counts or not."""
        return self.panel or self.hand

    def holds(self, value: float, limit: float) -> bool:
        """Return whether the value is on the good side of the limit."""
        return value >= limit if self.direction == "at_least" else value <= limit

    def judge(self, measurement: Measurement) -> Verdict:
        """Compare a measurement with the bound.

        On other images than the bound was made for, a sample or more of them, the model gets the benefit of the
        measurement's 95% interval; a count's bound is scaled to their number. Raises `GatesError` when the row is about
        another metric, asks for a significance that the measurement does not have, or is to judge NaN.
        """
        if self.metric and measurement.metric != self.metric:
            raise GatesError(
                f"gate {self.id}: the row holds a bound on {self.metric!r}, the test measured {measurement.metric!r}; "
                "correct the row's metric or the test"
            )
        if self.significance is not None and measurement.p_value is None:
            raise GatesError(
                f"gate {self.id}: the row asks for a significance, but {measurement.metric!r} compares no two models; "
                "remove `significance` from the row"
            )
        if math.isnan(measurement.value):
            raise GatesError(
                f"gate {self.id}: the test measured {measurement.metric!r} as NaN, expected a number; where there is "
                "nothing to measure, raise NotApplicableError"
            )
        bound = self.threshold
        if bound is None:
            return self._verdict("not_gated", measurement, None)
        share = measurement.n / bound.n if bound.n else self.share
        limit = bound.bound * share if measurement.unit == "images" else bound.bound
        value = measurement.value
        if share != 1:
            low, high = measurement.interval
            value = high if self.direction == "at_least" else low
        holds = self.holds(value, limit)
        if self.significance is not None and measurement.p_value is not None:
            holds = holds or measurement.p_value >= self.significance
        status: Status = "pass" if holds else ("error" if self.role == "baseline" else "fail")
        return self._verdict(status, measurement, limit)

    def _verdict(self, status: Status, measurement: Measurement, limit: float | None) -> Verdict:
        return Verdict(
            gate=self,
            status=status,
            value=measurement.value,
            limit=limit,
            n=measurement.n,
            interval=measurement.interval,
            unit=measurement.unit,
            metric=measurement.metric,
            detail=measurement.detail,
            failures=tuple(int(position) for position in measurement.failures[:NAMED]),
            flips=measurement.flips.as_json() if measurement.flips else None,
        )

    def unjudged(self, status: Literal["not_applicable", "error"], detail: str) -> Verdict:
        """Return the verdict of a gate that has no measurement."""
        return Verdict(gate=self, status=status, metric=self.metric, detail=detail)


def definition_of(gate: Gate) -> str:
    """Return a hash of what a row of the gates file measures, whatever its bounds."""
    content = {
        name: value
        for name, value in asdict(gate).items()
        if name not in _BOUNDS and not (name in _ADDED and value is None)
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What a gate says of one measurement."""

    gate: Gate
    status: Status
    metric: str
    detail: str = ""
    value: float | None = None
    limit: float | None = None
    n: int = 0
    interval: tuple[float, float] | None = None
    unit: str = "share"
    failures: tuple[int, ...] = ()
    """Positions, among the images measured, of the most telling failures."""
    flips: Mapping[str, Any] | None = None
    """What changed since the model before, see `Flips.as_json`."""

    @property
    def passed(self) -> bool:
        """Return whether the test may pass: the bound holds, or there is none to hold."""
        return self.status in {"pass", "not_gated", "not_applicable"}

    def is_worse_than(self, other: Verdict) -> bool:
        """Return whether this measurement lies farther on the bad side than another of the same gate."""
        if self.value is None or other.value is None:
            return False
        return self.value < other.value if self.gate.direction == "at_least" else self.value > other.value

    def explain(self, report: str = "") -> str:
        """Say in one line what was measured, against what, on how many images; `report` is where the pictures are."""
        gate, metric = self.gate, self.metric.replace("_", " ")
        if self.value is None:
            return f"{gate.id}: {self.status.replace('_', ' ')}: {self.detail}"
        value, limit = self._number(self.value), "" if self.limit is None else self._number(self.limit)
        bound = "floor" if gate.direction == "at_least" else "ceiling"
        if self.limit is None:
            relation = f"(reported only: {gate.not_gated or self._how_to_gate(bound)})"
        elif self.status == "pass" and not gate.holds(self.value, self.limit):
            why = "chance may explain" if gate.significance else "its interval allows on other images"
            relation = f"beyond {bound} {limit}, which {why}"
        else:
            sign = {
                ("at_least", True): ">=",
                ("at_least", False): "<",
                ("at_most", True): "<=",
                ("at_most", False): ">",
            }
            if value == limit and self.value != self.limit:
                value, limit = f"{self.value:.10g}", f"{self.limit:.10g}"
            relation = f"{sign[gate.direction, self.status == 'pass']} {bound} {limit}"
        low, high = self.interval or (math.nan, math.nan)
        facts = f"n={self.n}, 95% CI {self._number(low)} to {self._number(high)}"
        healthy = gate.healthy
        if healthy and healthy.mean is not None and healthy.std is not None:
            spread = self._number(healthy.std) if self.unit != "images" else f"{healthy.std:.1f}"
            facts += f"; healthy {self._number(healthy.mean)} ± {spread}, K={healthy.retrains}"
        if gate.hand and self.limit is not None:
            facts += f"; {bound} set by hand"
        parts = [f"{gate.id}: {metric} {value} {relation} ({facts})", self.detail]
        if gate.role == "baseline" and self.status == "error":
            parts.append("the baseline itself is not what it should be, so nothing can be judged against it")
        parts.append(f"pictures in {report}#{gate.id}" if report else "")
        return "; ".join(part for part in parts if part)

    def _how_to_gate(self, bound: str) -> str:
        if self.gate.role != "candidate":
            return f"no {bound}"
        return f"no {bound} yet, `python -m harness calibrate --family {self.gate.family}` makes one"

    def _number(self, value: float) -> str:
        return f"{value:.0f}" if self.unit == "images" else f"{value:.4f}"

    def as_wire(self) -> dict[str, Any]:
        """Return the verdict in plain types, as it travels from a worker to the controller."""
        return asdict(self)

    @staticmethod
    def from_wire(wire: Mapping[str, Any]) -> Verdict:
        """Return the verdict that `as_wire` sent."""
        row = dict(wire["gate"])
        row["pose"] = Pose(**row["pose"])
        row["within"] = row["within"] and Pose(**row["within"])
        row["pair"] = row["pair"] and tuple(row["pair"])
        for name in ("hand", "panel"):
            row[name] = row[name] and Bound(**row[name])
        return Verdict(
            **{
                **wire,
                "gate": Gate(**row),
                "interval": wire["interval"] and tuple(wire["interval"]),
                "failures": tuple(wire["failures"]),
            }
        )

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
            "direction": self.gate.direction,
            "n": self.n,
            "interval": None if self.interval is None else list(self.interval),
            "provenance": None if threshold is None else ("hand" if self.gate.hand else "panel"),
            "status": self.status,
            "detail": self.detail,
            "unit": self.unit,
            "healthy_mean": healthy and healthy.mean,
            "healthy_std": healthy and healthy.std,
            "detects": healthy and healthy.detects,
            "explanation": self.explain(),
            **({} if self.flips is None else {"flips": self.flips}),
        }
