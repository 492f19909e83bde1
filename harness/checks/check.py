"""Judging: a check compares a measurement with its threshold, and its verdict says what came of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from harness.base.codes import Code
from harness.base.records import Unbounded, as_plain, record
from harness.checks.roles import ROLES
from harness.checks.rows import ChecksError, Row
from harness.checks.tolerance import ToleranceTest
from harness.checks.wording import explained
from harness.measures import METRICS
from harness.measures.metric import Curve, Sampling, Scale, Unit, packed

if TYPE_CHECKING:
    from harness.measures.metric import Measurement, Metric

NAMED = 60
"""Number of failures that a verdict names; the report chooses from them."""

Status = Literal["pass", "fail", "inconclusive", "informational", "not_applicable", "error"]
STATUSES: tuple[Status, ...] = ("error", "fail", "inconclusive", "pass", "informational", "not_applicable")
"""The statuses, the gravest first: if one check has several verdicts, that counts."""
_STATUS_OF: dict[str, Status] = {
    "equal": "pass",
    "different": "fail",
    "inconclusive": "inconclusive",
    "informational": "informational",
}
"""Statuses by the outcome of a comparison with a tolerance."""


@record
class Check(Row):
    """One check: a row of the checks file that judges measurements of one metric."""

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
        interval counts against the panel's threshold. A threshold by hand passes if the worse end keeps it, too, and
        fails if the better end does not; otherwise the check is inconclusive. The threshold of a count is scaled.
        Raises `ChecksError` for a check on another metric, a threshold outside the metric's range, a significance
        without a p-value, and NaN. In a run that stops, the value is the accuracy if all other images are correct.
        Raises `ChecksError` if that keeps the threshold.
        """
        metric, wrong = measurement.metric, ""
        if self.metric not in {"", metric.name}:
            wrong = (
                f"the check holds a threshold on {self.metric!r}, the test measured {metric.name!r}; correct the "
                "check's metric or the test"
            )
        elif not metric.is_case_of(METRICS.get(metric.name, metric)):
            wrong = (
                f"the test measured a metric {metric.name!r}, but this is the name of another, known metric; choose "
                "another name for yours"
            )
        elif self.significance is not None and measurement.p_value is None:
            wrong = (
                f"the check asks for a significance, but {metric.name!r} compares no two models; remove `significance` "
                "from the check"
            )
        elif math.isnan(measurement.value):
            wrong = (
                f"the test measured {metric.name!r} as NaN, expected a number; where there is nothing to measure, "
                "raise NotApplicableError"
            )
        try:
            if wrong:
                raise ChecksError(wrong)
            by_hand = self.share if self.share_by_hand is None else self.share_by_hand
            check = self.with_metric(metric, images=round(measurement.n / by_hand))
        except ChecksError as error:
            raise ChecksError(f"check {self.id}: {error}") from None
        threshold = check.binding
        if threshold is None:
            return check._verdict("informational", measurement, None)
        if check.tolerance is not None and check._tolerated is not None:
            return check._held_to_tolerance(measurement, check.tolerance)
        share = measurement.n / threshold.n if threshold.n else by_hand
        limit = threshold.threshold * share if measurement.unit is Unit.IMAGES else threshold.threshold
        if check.stopped:
            return check._failed_for_certain(measurement, threshold.threshold)
        # Even with equal numbers, the images may differ; a threshold by hand knows no error by sampling. A thorough run
        # may measure more images than it is for, which leaves nothing open.
        on_sample = share != 1 or check.share != 1
        if check.hand is not None:
            on_sample = share < 1 or check.share < 1 or measurement.sampling is not None
        status = check._status_on_sample(measurement, limit) if on_sample else check._status(measurement, limit)
        if status == "fail" and ROLES[check.role].precondition:
            status = "error"
        verdict = check._verdict(status, measurement, limit)
        return replace(verdict, code=Code.BASELINE) if status == "error" else verdict

    def _status(self, measurement: Measurement, limit: float) -> Status:
        """Return whether the value keeps the limit, or is not significantly beyond it."""
        kept = self.holds(measurement.value, limit)
        return "pass" if kept or self._is_insignificant(measurement) else "fail"

    def _status_on_sample(self, measurement: Measurement, limit: float) -> Status:
        """Return the status by the 95% interval, since other images could give any value within it."""
        low, high = measurement.interval
        worse, better = (low, high) if self.direction == "at_least" else (high, low)
        may_pass = self.holds(better, limit) or self._is_insignificant(measurement)
        if not may_pass:
            return "fail"
        if self.hand is None or self.holds(worse, limit):
            return "pass"
        return "inconclusive"

    def _is_insignificant(self, measurement: Measurement) -> bool:
        if self.significance is None or measurement.p_value is None:
            return False
        return measurement.p_value >= self.significance

    def _held_to_tolerance(self, measurement: Measurement, tolerance: float) -> Verdict:
        """Return the verdict by exact bounds: equal passes, different fails, and anything else is inconclusive."""
        if measurement.quantity is None:
            raise ChecksError(
                f"check {self.id}: {measurement.metric.name!r} is no distance from an original, so the check cannot "
                "have a tolerance; give it a threshold by hand"
            )
        test = ToleranceTest(measurement, tolerance, self.sharing)
        measured = replace(measurement, detail="; ".join(filter(None, (measurement.detail, test.in_words))))
        return self._verdict(_STATUS_OF[test.outcome], measured, None if test.outcome == "informational" else tolerance)

    def _failed_for_certain(self, measurement: Measurement, limit: float) -> Verdict:
        errors = round((1 - measurement.value) * measurement.n)
        best = (self.stopped - errors) / self.stopped  # As a run divides that measures all of them.
        if measurement.metric.name != "accuracy" or self.holds(best, limit):
            raise ChecksError(
                f"check {self.id}: the run has stopped, but its {measurement.n} images do not show a certain failure. "
                "The model or the test depends on more than the image; run the gate without stop"
            )
        told = replace(measurement, value=best, detail="")  # The hardest images have other confusions than all.
        return replace(self._verdict("fail", told, limit), interval=None, stopped=self.stopped)

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
            sampling=measurement.sampling,
            curve=measurement.curve,
        )

    def unjudged(self, status: Literal["not_applicable", "error"], detail: str, *, code: str = "") -> Verdict:
        """Return the verdict of a check without a measurement; an error has the code of its reason."""
        return Verdict(check=self, status=status, metric=self.metric, detail=detail, code=code)


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
    sampling: Sampling | None = None
    """Error by sampling, of a sample with strata."""
    curve: Curve | None = None
    """The curve behind the value, if a figure draws it."""
    stopped: int = 0
    """Number of images of the whole check, in a run that stops after n; `value` is the best that others can make it."""
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
    def is_open(self) -> bool:
        """Return whether a sample leaves open if the candidate keeps a threshold by hand."""
        return self.status == "inconclusive" and self.check.hand is not None

    @property
    def out_of(self) -> int:
        """Return the number of images that value and interval count."""
        return self.n if self.counted is None else self.counted

    @property
    def leads(self) -> str:
        """Return the noun of a count whose pictures are the first of a page; empty for other metrics."""
        metric = METRICS.get(self.metric)
        return metric.leads if metric else ""

    def outranks(self, other: Verdict) -> bool:
        """Return whether this verdict replaces another of the same check: the graver, or at equal gravity the worse."""
        if self.status != other.status or self.value is None or other.value is None:
            return STATUSES.index(self.status) < STATUSES.index(other.status)
        return self.value > other.value if self.check.direction == "at_most" else self.value < other.value

    def explain(self, report: str = "") -> str:
        """Return one line with value, threshold, number of images and interval; `report` is the page with pictures."""
        return explained(self, report)

    def as_json(self) -> dict[str, Any]:
        """Return the check's entry in `stress.json`: the verdict's fields, and what a reader would derive from them."""
        reference = self.check.reference
        return {
            "id": self.check.id,
            "role": self.check.role,
            "family": self.check.family,
            "direction": self.check.direction or "at_least",
            "provenance": self.check.provenance,
            "reference_mean": reference and reference.mean,
            "reference_std": reference and reference.std,
            "minimum_detectable_drop": reference and reference.minimum_detectable_drop,
            "explanation": self.explain(),
            **as_plain(self),
            "check": as_plain(self.check, brief=True),
        }
