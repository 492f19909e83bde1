"""Judging: a check compares a measurement with its threshold and gives a verdict."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.base.codes import Code
from harness.base.records import Unbounded, as_plain, record
from harness.checks.conditions import Conditions
from harness.checks.roles import ROLES
from harness.checks.rows import ChecksError, Row, Threshold
from harness.checks.tolerance import ToleranceTest
from harness.checks.wording import explained
from harness.measures import METRICS
from harness.measures.equivalence import ConfidenceLimits
from harness.measures.metric import Curve, Sampling, Scale, Unit, packed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.measures.metric import Measurement, Metric

NAMED = 60
"""Number of failures that a verdict names; the report chooses from them."""

Status = Literal["pass", "fail", "inconclusive", "informational", "not_applicable", "error"]
STATUSES: tuple[Status, ...] = (
    "error",
    "fail",
    "inconclusive",
    "pass",
    "informational",
    "not_applicable",
)
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
    """One check: a row of the checks file that judges measurements of one metric.

    A run gives it the `conditions` under which it is measured.
    """

    conditions: Conditions = Conditions()

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the check in `stress.json`, without fields at their default."""
        plain: dict[str, Any] = as_plain(self, brief=True)
        conditions: dict[str, Any] = plain.pop("conditions", {})
        return plain | conditions

    def with_metric(self, metric: Metric, *, images: int) -> Check:
        """Return the check with the direction of its metric.

        Args:
            metric: The metric that the check measures.
            images: The number of images that the thresholds are for.

        Raises:
            ChecksError: The check has another direction, a threshold outside the metric's range, or
                one by hand that no measurement can fail.
        """
        if self.direction not in {None, metric.direction}:
            raise ChecksError(
                f"for {metric.name}, {metric.better} is better; "
                f'write direction = "{metric.direction}", or leave it out'
            )
        check = replace(self, direction=metric.direction)

        low, high = metric.range
        for threshold in filter(None, (check.by_hand, check.panel)):
            if not low <= threshold.threshold <= high or not math.isfinite(threshold.threshold):
                raise ChecksError(
                    f"threshold {threshold.threshold} is outside the range of {metric.name}, "
                    f"{low} to {high}"
                )

        if check.hand and check.holds(metric.worst(images), check.hand.threshold):
            raise ChecksError(
                f"no {metric.name} is beyond {check.hand.threshold}, so the check cannot fail; "
                "change the threshold, or remove it: the check is then informational"
            )
        return check

    def judge(self, measurement: Measurement) -> Verdict:
        """Compare a measurement with the threshold.

        A run may measure other images than the threshold is for, for example a sample. Then the
        better end of the 95% interval counts against the panel's threshold. A threshold by hand
        passes if the worse end keeps it, too, and fails if the better end does not; otherwise the
        check is inconclusive. The threshold of a count is scaled. In a run that stops, the value is
        the accuracy if all other images are correct.

        Raises:
            ChecksError: The check is on another metric, has a threshold outside the metric's range,
                or has a significance without a p-value. The measurement is NaN. The run has
                stopped, but the value keeps the threshold.
        """
        check = self._fitting(measurement)
        confidence_limits = None
        if check._tolerated is not None:
            test = check._tolerance_test(measurement)
            confidence_limits = test.confidence_limits
            detail = "; ".join(filter(None, (measurement.detail, test.in_words)))
            measurement = replace(measurement, detail=detail)
        elif check.binding is not None and check.conditions.stopped:
            # The hardest images have other confusions than all.
            measurement = replace(measurement, value=check._best_value(measurement), detail="")

        measured = check._measured(measurement, confidence_limits)
        status, threshold = check.ruling(measured)
        verdict = replace(measured, status=status, threshold=threshold)

        if status == "error":
            return replace(verdict, code=Code.BASELINE)
        if verdict.judged and check.conditions.stopped:
            check._expect_certain_failure(verdict)
            return replace(verdict, interval=None, stopped=check.conditions.stopped)
        return verdict

    def ruling(self, measured: Verdict) -> tuple[Status, int | float | None]:
        """Return the status that follows from the measured fields of a verdict, and its threshold.

        It depends on fields that a record has. Without a value, the reason decides: an error, or
        not applicable.
        """
        if measured.value is None:
            return ("error" if measured.status == "error" else "not_applicable"), None

        threshold = self.binding
        if threshold is None:
            return "informational", None
        if self._tolerated is not None and self.tolerance is not None:
            return self._ruling_by_tolerance(measured, self.tolerance)
        if self.conditions.stopped:
            keeps = self.holds(measured.value, threshold.threshold)
            return ("pass" if keeps else "fail"), threshold.threshold
        return self._ruling_by_threshold(measured, threshold)

    def _ruling_by_tolerance(
        self, measured: Verdict, tolerance: float
    ) -> tuple[Status, float | None]:
        """Return the status by the bounds of the distance, and the tolerance if it was judged."""
        limits = measured.confidence_limits
        outcome = "inconclusive" if limits is None else limits.outcome(tolerance)
        if outcome == "informational":
            return _STATUS_OF[outcome], None
        return _STATUS_OF[outcome], tolerance

    def _ruling_by_threshold(
        self, measured: Verdict, threshold: Threshold
    ) -> tuple[Status, int | float]:
        """Return the status by the threshold that counts, and that threshold for these images."""
        share = self.conditions.share_of_counts
        if threshold.n:
            share = measured.n / threshold.n
        limit = threshold.threshold
        if measured.unit is Unit.IMAGES:
            limit = threshold.threshold * share

        # Even with equal numbers, the images may differ; a threshold by hand knows no error by
        # sampling. A thorough run may measure more images than it is for, which leaves nothing
        # open.
        on_sample = share != 1 or self.conditions.share != 1
        if self.hand is not None:
            on_sample = share < 1 or self.conditions.share < 1 or measured.sampling is not None
        ends = measured.interval if on_sample else None

        status: Status = self._status_of(measured, limit, ends=ends)
        if status == "fail" and ROLES[self.role].precondition:
            status = "error"
        return status, limit

    def _fitting(self, measurement: Measurement) -> Check:
        """Return the check with the direction of the measured metric.

        Raises `ChecksError`, which names the check, for a measurement that it cannot judge.
        """
        images = round(measurement.n / self.conditions.share_of_counts)
        try:
            self._expect_fitting(measurement)
            return self.with_metric(measurement.metric, images=images)
        except ChecksError as error:
            raise ChecksError(f"check {self.id}: {error}") from None

    def _expect_fitting(self, measurement: Measurement) -> None:
        metric = measurement.metric
        if self.metric not in {"", metric.name}:
            raise ChecksError(
                f"the check holds a threshold on {self.metric!r}, "
                f"the test measured {metric.name!r}; correct the check's metric or the test"
            )
        if not metric.is_case_of(METRICS.get(metric.name, metric)):
            raise ChecksError(
                f"the test measured a metric {metric.name!r}, but this is the name of another, "
                "known metric; choose another name for yours"
            )
        if self.significance is not None and measurement.p_value is None:
            raise ChecksError(
                f"the check asks for a significance, but {metric.name!r} compares no two models; "
                "remove `significance` from the check"
            )
        if math.isnan(measurement.value):
            raise ChecksError(
                f"the test measured {metric.name!r} as NaN, expected a number; where there is "
                "nothing to measure, raise NotApplicableError"
            )

    def _status_of(
        self, measured: Verdict, limit: float, *, ends: tuple[float, float] | None
    ) -> Literal["pass", "fail", "inconclusive"]:
        """Return whether the value keeps the limit.

        On a sample, it could be any value between the `ends` of its 95% interval. A value that is
        not significantly beyond the limit keeps it.
        """
        value = math.nan if measured.value is None else measured.value
        low, high = ends or (value, value)
        worse, better = (low, high) if self.direction == "at_least" else (high, low)
        if not self.holds(better, limit) and not self._is_insignificant(measured):
            return "fail"
        if ends is None or self.hand is None or self.holds(worse, limit):
            return "pass"
        return "inconclusive"

    def _is_insignificant(self, measured: Verdict) -> bool:
        if self.significance is None or measured.p_value is None:
            return False
        return measured.p_value >= self.significance

    def _tolerance_test(self, measurement: Measurement) -> ToleranceTest:
        """Return the test by exact bounds; its outcome is equal, different or inconclusive."""
        if measurement.quantity is None or self.tolerance is None:
            raise ChecksError(
                f"check {self.id}: {measurement.metric.name!r} is no distance from an original, so "
                "the check cannot have a tolerance; give it a threshold by hand"
            )
        return ToleranceTest(measurement, self.tolerance, self.conditions.sharing)

    def _best_value(self, measurement: Measurement) -> float:
        """Return the accuracy if all images that a stopped run leaves out are correct."""
        errors = round((1 - measurement.value) * measurement.n)
        whole = self.conditions.stopped
        return (whole - errors) / whole  # As a run divides that measures all of them.

    def _expect_certain_failure(self, verdict: Verdict) -> None:
        if verdict.metric != "accuracy" or verdict.status != "fail":
            raise ChecksError(
                f"check {self.id}: the run has stopped, but its {verdict.n} images do not show a "
                "certain failure. The model or the test depends on more than the image; "
                "run the gate without stop"
            )

    def _measured(self, measurement: Measurement, limits: ConfidenceLimits | None) -> Verdict:
        """Return a verdict with all that was measured, before it is compared with a threshold."""
        contributions = ""
        clean_value = None
        if self.conditions.recorded:
            clean_value = measurement.rest
            if measurement.each is not None:
                contributions = packed(measurement.each)

        return Verdict(
            check=self,
            status="informational",
            value=measurement.value,
            n=measurement.n,
            counted=measurement.counted,
            interval=measurement.interval,
            unit=measurement.unit,
            metric=measurement.metric.name,
            about=measurement.metric.words,
            scale=measurement.metric.scale,
            detail=measurement.detail,
            failures=tuple(int(position) for position in measurement.failures[:NAMED]),
            p_value=measurement.p_value,
            confidence_limits=limits,
            flips=measurement.flips.as_json() if measurement.flips else None,
            each=contributions,
            rest=clean_value,
            sampling=measurement.sampling,
            curve=measurement.curve,
        )

    def unjudged(
        self, status: Literal["not_applicable", "error"], detail: str, *, code: str = ""
    ) -> Verdict:
        """Return the verdict of a check without a measurement.

        An error has the code of its reason.
        """
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
    p_value: Unbounded | None = None
    """Of a comparison of two models, which a check with a significance needs."""
    confidence_limits: ConfidenceLimits | None = None
    """The bounds that a tolerance is compared with."""
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
    """Number of images of the whole check, in a run that stops after n.

    `value` is then the best that the other images can make it.
    """
    code: str = ""
    """The code of an error, see `harness.base.codes`."""

    @property
    def passed(self) -> bool:
        """Return whether the measurement keeps its threshold, or no threshold applies."""
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
        """Return the noun of a count whose pictures come first on a page; empty for others."""
        metric = METRICS.get(self.metric)
        return metric.leads if metric else ""

    def outranks(self, other: Verdict) -> bool:
        """Return whether this verdict replaces another of the same check.

        The graver one counts, or at equal gravity the worse value.
        """
        if self.status != other.status or self.value is None or other.value is None:
            return STATUSES.index(self.status) < STATUSES.index(other.status)
        if self.check.direction == "at_most":
            return self.value > other.value
        return self.value < other.value

    def explain(self, report: str = "") -> str:
        """Return one line with value, threshold, number of images and interval.

        `report` is the page with pictures.
        """
        return explained(self, report)

    @property
    def derived(self) -> dict[str, Any]:
        """Return the facts in `stress.json` that follow from the check's other fields there."""
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
        }

    def as_json(self) -> dict[str, Any]:
        """Return the check's entry in `stress.json`: the verdict's fields and the derived facts."""
        plain = as_plain(self) | {"check": self.check.as_json()}
        return {**self.derived, "explanation": self.explain(), **plain}


def plain_verdict(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict in a check's entry of `stress.json`, without facts that follow from it."""
    plain = {item.name: entry[item.name] for item in fields(Verdict)}
    check = dict(plain["check"])
    names = [item.name for item in fields(Conditions) if item.name in check]
    conditions = {name: check.pop(name) for name in names}
    return plain | {"check": {**check, "conditions": conditions}}
