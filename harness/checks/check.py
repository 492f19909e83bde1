"""Judging: a check compares a measurement with its threshold, and its verdict says what came of it."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

from harness.base.codes import Code
from harness.base.records import Unbounded, as_plain, record
from harness.checks.conditions import Conditions
from harness.checks.roles import ROLES
from harness.checks.rows import ChecksError, Row
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
        check = self._fitting(measurement)
        compared, limits = measurement, None
        if check._tolerated is not None:
            test = check._tolerance_test(measurement)
            detail = "; ".join(filter(None, (measurement.detail, test.in_words)))
            compared, limits = replace(measurement, detail=detail), test.confidence_limits
        elif check.binding is not None and check.conditions.stopped:
            # The hardest images have other confusions than all.
            compared = replace(measurement, value=check._best_value(measurement), detail="")

        measured = check._measured(compared, limits)
        status, threshold = check.ruling(measured)
        verdict = replace(measured, status=status, threshold=threshold)
        if status == "error":
            return replace(verdict, code=Code.BASELINE)
        if verdict.judged and check.conditions.stopped:
            check._expect_certain_failure(verdict)
            return replace(verdict, interval=None, stopped=check.conditions.stopped)
        return verdict

    def ruling(self, measured: Verdict) -> tuple[Status, int | float | None]:
        """Return the status that follows from what a verdict says was measured, and the threshold that it was held to.

        It depends on fields that a record has. Without a value, the reason decides: an error, or not applicable.
        """
        threshold = self.binding
        if measured.value is None:
            return ("error" if measured.status == "error" else "not_applicable"), None
        if threshold is None:
            return "informational", None
        if self._tolerated is not None and self.tolerance is not None:
            limits = measured.confidence_limits
            outcome = "inconclusive" if limits is None else limits.outcome(self.tolerance)
            return _STATUS_OF[outcome], None if outcome == "informational" else self.tolerance
        if self.conditions.stopped:
            return (
                "pass" if self.holds(measured.value, threshold.threshold) else "fail"
            ), threshold.threshold

        share = measured.n / threshold.n if threshold.n else self.conditions.share_of_counts
        limit = threshold.threshold * share if measured.unit is Unit.IMAGES else threshold.threshold
        # Even with equal numbers, the images may differ; a threshold by hand knows no error by sampling. A thorough run
        # may measure more images than it is for, which leaves nothing open.
        on_sample = share != 1 or self.conditions.share != 1
        if self.hand is not None:
            on_sample = share < 1 or self.conditions.share < 1 or measured.sampling is not None
        status: Status = self._status_of(
            measured, limit, ends=measured.interval if on_sample else None
        )
        if status == "fail" and ROLES[self.role].precondition:
            status = "error"
        return status, limit

    def _fitting(self, measurement: Measurement) -> Check:
        """Return the check with the direction of the metric; raises `ChecksError` for a measurement it cannot judge."""
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
            return self.with_metric(
                metric, images=round(measurement.n / self.conditions.share_of_counts)
            )
        except ChecksError as error:
            raise ChecksError(f"check {self.id}: {error}") from None

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
        """Return the test by exact bounds: equal passes, different fails, and anything else is inconclusive."""
        if measurement.quantity is None or self.tolerance is None:
            raise ChecksError(
                f"check {self.id}: {measurement.metric.name!r} is no distance from an original, so the check cannot "
                "have a tolerance; give it a threshold by hand"
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
                f"check {self.id}: the run has stopped, but its {verdict.n} images do not show a certain failure. "
                "The model or the test depends on more than the image; run the gate without stop"
            )

    def _measured(self, measurement: Measurement, limits: ConfidenceLimits | None) -> Verdict:
        """Return a verdict with all that was measured, before it is compared with a threshold."""
        recorded = self.conditions.recorded
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
            each=packed(measurement.each) if recorded and measurement.each is not None else "",
            rest=measurement.rest if recorded else None,
            sampling=measurement.sampling,
            curve=measurement.curve,
        )

    def unjudged(
        self, status: Literal["not_applicable", "error"], detail: str, *, code: str = ""
    ) -> Verdict:
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
        return (
            self.value > other.value
            if self.check.direction == "at_most"
            else self.value < other.value
        )

    def explain(self, report: str = "") -> str:
        """Return one line with value, threshold, number of images and interval; `report` is the page with pictures."""
        return explained(self, report)

    @property
    def derived(self) -> dict[str, Any]:
        """Return the facts of the check's entry in `stress.json` that a reader could derive from its other fields."""
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
        """Return the check's entry in `stress.json`: the verdict's fields, and what follows from them."""
        plain = as_plain(self) | {"check": self.check.as_json()}
        return {**self.derived, "explanation": self.explain(), **plain}


def plain_verdict(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict in a check's entry of `stress.json`, without facts that follow from it."""
    plain = {item.name: entry[item.name] for item in fields(Verdict)}
    check = dict(plain["check"])
    names = [item.name for item in fields(Conditions) if item.name in check]
    conditions = {name: check.pop(name) for name in names}
    return plain | {"check": {**check, "conditions": conditions}}
