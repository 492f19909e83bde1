"""A row of the gates file: a case of a family, and the bound that its measurement must keep."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from harness.errors import InputError
from harness.gates.roles import ROLES
from harness.measures.metric import Direction
from harness.perturb.poses import IDENTITY, Pose
from harness.store.records import record

if TYPE_CHECKING:
    from harness.gates.verdicts import Verdict
    from harness.measures.metric import Measurement, Metric


class GatesError(InputError):
    """A gates file that cannot be used; the message names file and row."""


def _known(role: str) -> str:
    if role not in ROLES:
        raise PydanticCustomError("role", "one of {known}", {"known": ", ".join(ROLES)})
    return role


@record
class Bound:
    """A threshold and where it comes from; the healthy values are those of `retrains` networks of other seeds.

    It was made for `n` images, by default all of the data's. A calibrated bound lies `k` standard deviations of
    prediction off the mean, and notices a loss of `detects`, in the unit of the metric, with 95% power. Its `row` is
    the beginning of the `definition` that the row had when it was calibrated.
    """

    bound: int | float
    reason: str = ""
    mean: int | float | None = None
    std: int | float | None = None
    retrains: int | None = None
    k: int | float | None = None
    detects: int | float | None = None
    n: int | None = None
    row: str = ""
    date: str = ""


@record
class Gate:
    """One row of the gates file: a case of a family, and the bound that its measurement must keep.

    `role` is that of the model judged. `direction` says on which side of the bound to be; a row that leaves it out has
    its metric's. What a family's test does with `pose`, `class_name` and the row's own `keys`, which the test declares
    and which are attributes of the row, is the test's business. A row without bound is reported only, and so is one
    whose panel bound is switched off by `not_gated`, which says why. A comparison of two models beyond its bound fails
    only when chance explains it with a probability below `significance`.
    """

    id: str
    family: str
    metric: str
    direction: Direction | None = None
    role: Annotated[str, AfterValidator(_known)] = "candidate"
    pose: Pose = IDENTITY
    class_name: str | None = None
    significance: Annotated[float, Field(ge=0, le=1)] | None = None
    not_gated: str = ""
    hand: Bound | None = None
    panel: Bound | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """What the keys say, in words."""
    share: float = 1.0
    """Share of the images that the bounds were made for, in (0, 1]; set by a sampled run."""
    recorded: bool = False
    """Whether the measurement is for calibration, which wants to know what each image contributes."""
    definition: str = ""
    """A hash of what the row measures, whatever its bounds; made of the row as the file has it."""

    def __post_init__(self) -> None:
        if not self.definition:
            object.__setattr__(self, "definition", _definition(self))

    def __getattr__(self, name: str) -> Any:
        keys = self.__dict__.get("keys", {})
        if name in keys:
            return keys[name]
        raise AttributeError(
            f"gate {self.__dict__.get('id', '')}: {name!r} is no key of rows in general; a test declares what its rows "
            f'have besides, such as @gate("family", {name}=float)'
        )

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
        return value <= limit if self.direction == "at_most" else value >= limit

    def measured_by(self, metric: Metric, *, images: int) -> Gate:
        """Return the row with the direction of its metric; `images` is how many the bounds are made for.

        Raises `GatesError` when the row says otherwise, and for a bound that is no value of the metric or cannot fail.
        """
        if self.direction not in {None, metric.direction}:
            raise GatesError(
                f'of {metric.name} {metric.better} is better; write direction = "{metric.direction}", or leave it out'
            )
        gate = replace(self, direction=metric.direction)
        low, high = metric.range
        for bound in filter(None, (gate.hand, gate.panel)):
            if not low <= bound.bound <= high or not math.isfinite(bound.bound):
                raise GatesError(f"bound {bound.bound} is outside the range of {metric.name}, {low} to {high}")
        if gate.hand and gate.holds(metric.worst(images), gate.hand.bound):
            raise GatesError(
                f"no {metric.name} is beyond {gate.hand.bound}, so that the gate cannot fail; without a bound the row "
                "is reported only"
            )
        return gate

    def judge(self, measurement: Measurement) -> Verdict:
        """Compare a measurement with the bound; see `harness.gates.verdicts.judge`."""
        from harness.gates.verdicts import judge

        return judge(self, measurement)

    def unjudged(self, status: Literal["not_applicable", "error"], detail: str) -> Verdict:
        """Return the verdict of a gate that has no measurement."""
        from harness.gates.verdicts import Verdict

        return Verdict(gate=self, status=status, metric=self.metric, detail=detail)


COMMON_KEYS = frozenset({"class", *(item.name for item in fields(Gate))}) - {
    *("class_name", "keys", "words", "share", "definition", "recorded"),
}
"""The keys that all rows have; what else a row has is its test's business."""


def _definition(gate: Gate) -> str:
    content = {
        "id": gate.id,
        "family": gate.family,
        "metric": gate.metric,
        "role": gate.role,
        "pose": asdict(gate.pose),
        "class": gate.class_name,
        "significance": gate.significance,
        "keys": gate.keys,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()
