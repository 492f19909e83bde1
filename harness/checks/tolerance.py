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
TOLERANCE, OF_A_PART = 0.01, 0.05
"""Share of all images that may change, and of the images of the worst class or group."""


@dataclass(frozen=True, eq=False)
class ToleranceTest:
    """A distance from an original, compared with a tolerance by its exact bounds.

    Tests of one decision share its level: `sharing` is their number. A test `follows` from another one if it has to be
    equal where the other is.
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
        found = self.confidence_limits.outcome(self.tolerance)
        return (
            "equal"
            if found == "inconclusive" and self.follows and self.follows.outcome == "equal"
            else found
        )

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
        value, held = self.measurement.unit.told_apart(self.measurement.value, self.tolerance)
        lower, upper = map(self.written, self.limits)
        bound = {"equal": f"at most {upper}", "inconclusive": f"between {lower} and {upper}"}.get(
            self.outcome
        )
        return f"{value}{f', {bound} with 99% confidence' if bound else ''}, tolerance {held}"

    @property
    def in_words(self) -> str:
        """Return the bounds behind the outcome, and the number of images needed, as text."""
        (lower, upper), held = map(self.written, self.limits), self.written(self.tolerance)
        if self.outcome == "equal":
            return f"equal: at most {upper} (99% confidence), tolerance {held}"
        if self.outcome == "different":
            least = self.written(self.quantity.limits(1 - self.level)[0])
            return (
                f"different: at least {least} ({1 - self.level:.4g} confidence), tolerance {held}"
            )
        if self.outcome == "informational":
            return f"informational: {least_images(self.tolerance):,} images of a group prove {held}, all have fewer"
        more = images_needed(self.quantity, self.tolerance)
        tells = (
            "no number of images would tell"
            if more is None
            else f"about {more - self.quantity.n:,} more would tell"
        )
        between = f"cannot tell: between {lower} and {upper} (99% confidence each)"
        return f"{between}, tolerance {held}; of {self.quantity.n:,} images, {tells}"


def overall(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of all tests: different if one is, equal if all are, else inconclusive.

    Informational outcomes do not count.
    """
    found = set(outcomes)
    return (
        "different"
        if "different" in found
        else "equal"
        if found - {"informational"} == {"equal"}
        else "inconclusive"
    )


def what_decides(tests: Sequence[ToleranceTest], outcome: Outcome) -> tuple[str, str]:
    """Return the test that decided if the first did not, and the number of images that would tell, as text."""
    first, *others = tests
    decides = more = ""
    decided = next((test for test in others if test.outcome == outcome), None)
    if outcome not in {"equal", first.outcome} and decided is not None:
        name = decided.quantity.group
        decides = f"; {decided.title}{f' ({name})' if name else ''}: {decided.in_brief}"
    if outcome == "inconclusive":
        undecided = [test for test in tests if test.outcome == "inconclusive" and not test.follows]
        needed = [
            (images_needed(test.quantity, test.tolerance), test.quantity.n) for test in undecided
        ]
        more = "; it lies too close to the tolerance for any number of images"
        if all(images for images, _ in needed):
            more = f"; about {max(images - n for images, n in needed if images):,} more images would tell"
    return decides, more


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

    At most the share `tolerance` of all predictions may change, and 5% of a class or group, or the tolerance if larger.
    """
    part, both = max(OF_A_PART, tolerance), (artifact, original)
    measured = [
        ("all predictions", predictions_changed(*both), tolerance),
        ("the worst class", worst_class_predictions_changed(*both, tolerance=part), part),
        ("correct predictions, net", correct_predictions_lost(*both), tolerance),
    ]
    for column in original.images.groups:
        worst = worst_group_predictions_changed(*both, by=column, tolerance=part)
        measured.append((f"the worst group by {column}", worst, part))
    tests = [ToleranceTest(found, held, len(measured), title) for title, found, held in measured]
    tests[2] = replace(tests[2], follows=tests[0])  # No more predictions are lost than change.
    return tuple(tests)
