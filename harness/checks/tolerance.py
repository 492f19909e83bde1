"""Distances of an artifact from its original, held to tolerances by exact bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.measures.changed_predictions import (
    correct_predictions_lost,
    predictions_changed,
    worst_class_predictions_changed,
    worst_group_predictions_changed,
)
from harness.measures.equivalence import (
    CONFIDENCE,
    confidence_limits_of,
    images_needed,
    least_images,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.inference import Predictions
    from harness.measures.equivalence import ConfidenceLimits, Outcome, Quantity
    from harness.measures.metric import Measurement

EQUIVALENCE = "equivalence"
"""The family of checks with such a tolerance."""
TOLERANCE = 0.01
"""Share of all predictions that may change."""
OF_A_PART = 0.05
"""Share of the predictions of the worst class or group that may change."""


@dataclass(frozen=True, eq=False)
class ToleranceTest:
    """A distance from an original, compared with a tolerance by its exact bounds.

    Tests of one decision share its level: `sharing` is their number. A test `follows` another one
    if it has to be equal where the other is.
    """

    measurement: Measurement
    tolerance: float
    sharing: int = 1
    title: str = ""
    follows: ToleranceTest | None = None

    @property
    def quantity(self) -> Quantity:
        assert self.measurement.quantity is not None
        return self.measurement.quantity

    @property
    def level(self) -> float:
        """Return the probability of a wrong "different"."""
        return (1 - CONFIDENCE) / self.sharing

    @cached_property
    def confidence_limits(self) -> ConfidenceLimits:
        """Return the bounds that decide the outcome."""
        return confidence_limits_of(self.quantity, level=self.level)

    @cached_property
    def outcome(self) -> Outcome:
        outcome = self.confidence_limits.outcome(self.tolerance)
        if outcome == "inconclusive" and self.follows and self.follows.outcome == "equal":
            return "equal"
        return outcome

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Return the one-sided bounds of 99% confidence, within the range of the metric."""
        low, high = self.measurement.metric.range
        lower, upper = self.quantity.limits(CONFIDENCE)
        return max(lower, low), min(upper, high)

    def written(self, value: float) -> str:
        """Return a value as text, with enough digits to distinguish it from the tolerance."""
        return self.measurement.unit.told_from(value, self.tolerance)

    @property
    def in_brief(self) -> str:
        """Return the value beside its tolerance, and the bound that decided, as text."""
        unit = self.measurement.unit
        value, tolerance = unit.told_apart(self.measurement.value, self.tolerance)
        lower, upper = map(self.written, self.limits)
        parts = [value]
        if self.outcome == "equal":
            parts.append(f"at most {upper} with 99% confidence")
        elif self.outcome == "inconclusive":
            parts.append(f"between {lower} and {upper} with 99% confidence")
        return ", ".join([*parts, f"tolerance {tolerance}"])

    @property
    def in_words(self) -> str:
        """Return the bounds behind the outcome, and the number of images needed, as text."""
        lower, upper = map(self.written, self.limits)
        tolerance = self.written(self.tolerance)
        if self.outcome == "equal":
            return f"equal: at most {upper} (99% confidence), tolerance {tolerance}"
        if self.outcome == "different":
            least = self.written(self.quantity.limits(1 - self.level)[0])
            confidence = f"{1 - self.level:.4g} confidence"
            return f"different: at least {least} ({confidence}), tolerance {tolerance}"
        if self.outcome == "informational":
            images = f"{least_images(self.tolerance):,} images of a group"
            return f"informational: {images} prove {tolerance}, all have fewer"

        between = f"cannot tell: between {lower} and {upper} (99% confidence each)"
        images = f"of {self.quantity.n:,} images, {self._images_that_tell}"
        return f"{between}, tolerance {tolerance}; {images}"

    @property
    def _images_that_tell(self) -> str:
        images = images_needed(self.quantity, self.tolerance)
        if images is None:
            return "no number of images would tell"
        return f"about {images - self.quantity.n:,} more would tell"


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of all tests: different if one is, equal if all are, else inconclusive.

    Informational outcomes do not count.
    """
    counting = set(outcomes) - {"informational"}
    if "different" in counting:
        return "different"
    return "equal" if counting == {"equal"} else "inconclusive"


def what_decides(tests: Sequence[ToleranceTest], outcome: Outcome) -> tuple[str, str]:
    """Return the test that decided if the first did not, and the number of images that would tell.

    Both are text, and may be empty.
    """
    first, *others = tests
    decides = ""
    deciding = next((test for test in others if test.outcome == outcome), None)
    if outcome not in {"equal", first.outcome} and deciding is not None:
        group = f" ({deciding.quantity.group})" if deciding.quantity.group else ""
        decides = f"; {deciding.title}{group}: {deciding.in_brief}"

    if outcome != "inconclusive":
        return decides, ""
    return decides, _images_for_all(tests)


def _images_for_all(tests: Sequence[ToleranceTest]) -> str:
    """Return how many more images all inconclusive tests together need."""
    missing: list[int] = []
    for test in tests:
        if test.outcome != "inconclusive" or test.follows:
            continue
        images = images_needed(test.quantity, test.tolerance)
        if not images:
            return "; it lies too close to the tolerance for any number of images"
        missing.append(images - test.quantity.n)
    return f"; about {max(missing):,} more images would tell"


def expect_tolerance(tolerance: float) -> None:
    """Raise `InputError` for a tolerance that is no share in (0, 1)."""
    if not 0 < tolerance < 1:
        raise InputError(
            f"expected a share above 0% and below 100%, found {tolerance:.4%}", setting="tolerance"
        )


def tolerance_tests(
    artifact: Predictions, original: Predictions, tolerance: float
) -> tuple[ToleranceTest, ...]:
    """Return the tests of an artifact on clean images, that of all predictions first.

    At most the share `tolerance` of all predictions may change. Of a class or group, 5% may, or the
    tolerance if that is larger.
    """
    part = max(OF_A_PART, tolerance)
    models = (artifact, original)
    measured = [
        ("all predictions", predictions_changed(*models), tolerance),
        ("the worst class", worst_class_predictions_changed(*models, tolerance=part), part),
        ("correct predictions, net", correct_predictions_lost(*models), tolerance),
    ]
    for column in original.images.groups:
        worst = worst_group_predictions_changed(*models, by=column, tolerance=part)
        measured.append((f"the worst group by {column}", worst, part))

    tests = [
        ToleranceTest(measurement, limit, len(measured), title)
        for title, measurement, limit in measured
    ]
    tests[2] = replace(tests[2], follows=tests[0])  # No more predictions are lost than change.
    return tuple(tests)
