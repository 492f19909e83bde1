"""A row of the checks file: a case of a family, and the threshold that its measurement must keep."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, field, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from harness.base.errors import InputError
from harness.base.records import record
from harness.checks.roles import ROLES
from harness.measures.metric import Direction
from harness.perturb.poses import IDENTITY, Pose

if TYPE_CHECKING:
    from harness.checks.verdicts import Verdict
    from harness.measures.metric import Measurement, Metric


class ChecksError(InputError):
    """A checks file that cannot be used; the message names file and row."""


def _known(role: str) -> str:
    if role not in ROLES:
        raise PydanticCustomError("role", "one of {known}", {"known": ", ".join(ROLES)})
    return role


@record
class Threshold:
    """A threshold and where it comes from; the healthy values are those of `reference_models` networks of other seeds.

    It was made for `n` images, by default all of the data's. A calibrated threshold lies `k` standard deviations of
    prediction off the mean, and notices a loss of `minimum_detectable_drop`, in the unit of the metric, with 95% power.
    Its `row` is the beginning of the `definition` that the row had when it was calibrated.
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


@record
class Check:
    """One row of the checks file: a case of a family, and the threshold that its measurement must keep.

    `role` is that of the model judged. `direction` says on which side of the bound to be; a row that leaves it out has
    its metric's. What a family's test does with `pose`, `class_name` and the row's own `keys`, which the test declares
    and which are attributes of the row, is the test's business. A row without threshold is informational, and so is one
    whose panel threshold is switched off by `informational`, which says why. A comparison of two models beyond its
    threshold fails only when chance explains it with a probability below `significance`.
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
    keys: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """What the keys say, in words."""
    share: float = 1.0
    """Share of the images that the thresholds were made for, in (0, 1]; set by a sampled run."""
    recorded: bool = False
    """Whether the measurement is for calibration, which wants to know what each image contributes."""
    definition: str = ""
    """A hash of what the row measures, whatever its thresholds; made of the row as the file has it."""

    def __post_init__(self) -> None:
        if not self.definition:
            object.__setattr__(self, "definition", _definition(self))

    def __getattr__(self, name: str) -> Any:
        keys = self.__dict__.get("keys", {})
        if name in keys:
            return keys[name]
        raise AttributeError(
            f"check {self.__dict__.get('id', '')}: {name!r} is no key of rows in general; a test declares what its "
            f"rows "
            f'have besides, such as @check("family", {name}=float)'
        )

    @property
    def binding(self) -> Threshold | None:
        """Return the threshold that counts: a hand threshold wins over the panel's."""
        return self.hand or (None if self.informational else self.panel)

    @property
    def reference(self) -> Threshold | None:
        """Return the threshold with statistics of reference models: the panel's, if any, whether it counts or not."""
        return self.panel or self.hand

    def holds(self, value: float, limit: float) -> bool:
        """Return whether the value is on the good side of the limit."""
        return value <= limit if self.direction == "at_most" else value >= limit

    def measured_by(self, metric: Metric, *, images: int) -> Check:
        """Return the row with the direction of its metric; `images` is how many the thresholds are made for.

        Raises `ChecksError` when the row says otherwise, and for a threshold that is no value of the metric or cannot
        fail.
        """
        if self.direction not in {None, metric.direction}:
            raise ChecksError(
                f'of {metric.name} {metric.better} is better; write direction = "{metric.direction}", or leave it out'
            )
        check = replace(self, direction=metric.direction)
        low, high = metric.range
        for threshold in filter(None, (check.hand, check.panel)):
            if not low <= threshold.threshold <= high or not math.isfinite(threshold.threshold):
                raise ChecksError(
                    f"threshold {threshold.threshold} is outside the range of {metric.name}, {low} to {high}"
                )
        if check.hand and check.holds(metric.worst(images), check.hand.threshold):
            raise ChecksError(
                f"no {metric.name} is beyond {check.hand.threshold}, so that the gate cannot fail; without a "
                f"threshold the row "
                "is informational"
            )
        return check

    def judge(self, measurement: Measurement) -> Verdict:
        """Compare a measurement with the threshold; see `harness.checks.verdicts.judge`."""
        from harness.checks.verdicts import judge

        return judge(self, measurement)

    def unjudged(self, status: Literal["not_applicable", "error"], detail: str) -> Verdict:
        """Return the verdict of a check that has no measurement."""
        from harness.checks.verdicts import Verdict

        return Verdict(check=self, status=status, metric=self.metric, detail=detail)


COMMON_KEYS = frozenset({"class", *(item.name for item in fields(Check))}) - {
    *("class_name", "keys", "words", "share", "definition", "recorded"),
}
"""The keys that all rows have; what else a row has is its test's business."""


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
