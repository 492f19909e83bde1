"""From logits to the values of checks, by the functions that their stress tests call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.alarms.domains import CLEAN, CORRUPTIONS
from harness.base.errors import InputError, NotApplicableError
from harness.checks.families import starter_checks
from harness.checks.first_checks import StarterCheck
from harness.data import LabelledImages, one_in
from harness.data.domain import AugmentationRange
from harness.features.label_probability.measures import (
    label_probability,
    label_probability_change,
    log_loss,
    log_loss_change,
)
from harness.inference.predictions import Predictions
from harness.measures import (
    Measurement,
    accuracy,
    brier_score,
    calibration_error,
    class_difference,
    confidence_on_errors,
    confident_errors,
    invariance,
    negative_log_likelihood,
    risk_coverage_area,
)
from harness.measures.panel.threshold import PanelCheck
from harness.perturb import IDENTITY, HorizontalFlip, Pose
from harness.perturb.corruptions import Corruption

WITHOUT_A_RANGE = ("clean", "class", "class-difference", "consensus")
OF_CONFIDENCE = ("confidence", "label_probability", "flips")
GEOMETRY = ("rotation", "shift", "flip", "augmentation_gap")
AMONG_NETWORKS = frozenset({"consensus", "flips"})
"""Families with values that depend on the reference models."""
SOFT = frozenset({"panel_divergence", "lost_probability"})
"""Metrics of the family `consensus` that are not measured, since they need probabilities of a
panel.
"""


@dataclass(frozen=True)
class Checks:
    """The checks of a domain, those `alone` of one network and those `among` networks.

    `conditions` are the names of the conditions that logits are recorded for, in their order.
    """

    conditions: tuple[str, ...]
    alone: tuple[StarterCheck, ...]
    among: tuple[StarterCheck, ...]


def checks_of(
    images: LabelledImages,
    conditions: Sequence[str],
    *,
    augmentation: AugmentationRange | None = None,
) -> Checks:
    """Return the checks that `init` writes for these images, and an `augmentation` range, if any.

    Without a range, each condition other than the first has a check of its accuracy in the family
    `corruption`.
    """
    families = [*WITHOUT_A_RANGE, *OF_CONFIDENCE]
    if augmentation is not None:
        families += [*GEOMETRY, "corruption"]
    checks = [
        check
        for check in starter_checks(images, families, augmentation=augmentation)
        if check.metric not in SOFT
        and (check.family != "corruption" or check.more["corruption"] in CORRUPTIONS)
    ]
    if augmentation is None:
        checks += [
            StarterCheck(f"corrupt-{name}", "corruption", "accuracy", {"condition": name})
            for name in conditions[1:]
        ]
    alone = tuple(check for check in checks if check.family not in AMONG_NETWORKS)
    among = tuple(check for check in checks if check.family in AMONG_NETWORKS)
    return Checks(tuple(conditions), alone, among)


class Seen:
    """The predictions of one network for some images, under all conditions.

    `half` are the images that checks of corruptions measure, as `stress_tests` does.
    """

    def __init__(
        self,
        logits: np.ndarray,
        conditions: Sequence[str],
        images: LabelledImages,
        half: LabelledImages,
    ) -> None:
        """Take logits, (conditions, images, classes)."""
        self._logits = dict(zip(conditions, logits, strict=True))
        self._images, self._half = images, half
        self._under: dict[str, Predictions] = {}

    @property
    def clean(self) -> Predictions:
        """Return the predictions of clean images, the first condition."""
        return self.under(next(iter(self._logits)))

    def under(self, condition: str) -> Predictions:
        """Return the predictions under a condition."""
        if condition not in self._under:
            self._under[condition] = self._predictions(condition, self._images)
        return self._under[condition]

    def under_half(self, condition: str) -> tuple[Predictions, Predictions]:
        """Return predictions of half of the images under a condition, and clean ones."""
        clean = next(iter(self._logits))
        return self._predictions(condition, self._half), self._predictions(clean, self._half)

    def _predictions(self, condition: str, images: LabelledImages) -> Predictions:
        answers = self._logits[condition][images.positions.numpy()].astype(np.float32)
        perturbation = IDENTITY if condition == next(iter(self._logits)) else HorizontalFlip()
        return Predictions(answers, images, perturbation)


def condition_of(check: StarterCheck) -> str:
    """Return the name of the condition that a check measures."""
    more: Mapping[str, Any] = check.more
    if "condition" in more:
        return str(more["condition"])
    if "corruption" in more:
        return repr(Corruption(more["corruption"], more["severity"]))
    if "pose" in more:
        return repr(Pose(**{name: float(value) for name, value in more["pose"].items()}))
    if check.family == "flip" or more.get("view") == ["mirrored"]:
        return repr(HorizontalFlip())
    return CLEAN


def measurement_of(check: StarterCheck, seen: Seen) -> Measurement:
    """Return what the stress test of a check measures.

    Raises `InputError` for a metric that is not measured here.
    """
    if check.metric not in _MEASURES:
        raise InputError(f"check {check.id}: the metric {check.metric} is not measured here")
    return _MEASURES[check.metric](check, seen)


def _accuracy(check: StarterCheck, seen: Seen) -> Measurement:
    condition = condition_of(check)
    if check.family == "corruption":
        corrupted, clean_half = seen.under_half(condition)
        return accuracy(corrupted, clean=clean_half)
    if condition != CLEAN:
        return accuracy(seen.under(condition), clean=seen.clean)
    class_name = check.more.get("class")
    return accuracy(seen.clean, of_class=None if class_name is None else str(class_name))


def _label_probability(check: StarterCheck, seen: Seen) -> Measurement:
    condition = condition_of(check)
    view = seen.clean if condition == CLEAN else seen.under(condition)
    return label_probability(view, clean=seen.clean)


def _confident_errors(check: StarterCheck, seen: Seen) -> Measurement:
    return confident_errors(seen.clean, above=float(str(check.more["confidence"])))


def _class_difference(check: StarterCheck, seen: Seen) -> Measurement:
    return class_difference(seen.clean, of_class=str(check.more["class"]))


def _of_clean(measure: Callable[[Predictions], Measurement]) -> _Measure:
    """Return the measure of a check that measures clean images."""
    return lambda _, seen: measure(seen.clean)


def _of_both(measure: Callable[[Predictions, Predictions], Measurement]) -> _Measure:
    """Return the measure of a check that compares clean images with those under a condition."""
    return lambda check, seen: measure(seen.clean, seen.under(condition_of(check)))


_Measure = Callable[[StarterCheck, Seen], Measurement]
_MEASURES: Mapping[str, _Measure] = {
    "accuracy": _accuracy,
    "label_probability": _label_probability,
    "confident_errors": _confident_errors,
    "class_difference": _class_difference,
    "invariance": _of_both(invariance),
    "log_loss": _of_both(lambda clean, view: log_loss(view, clean=clean)),
    "label_probability_change": _of_both(label_probability_change),
    "log_loss_change": _of_both(log_loss_change),
    "calibration_error": _of_clean(calibration_error),
    "negative_log_likelihood": _of_clean(negative_log_likelihood),
    "brier_score": _of_clean(brier_score),
    "confidence_on_errors": _of_clean(confidence_on_errors),
    "risk_coverage_area": _of_clean(risk_coverage_area),
}
"""By the name of a metric, what a check of it measures."""


def row_of(check: StarterCheck, measured: Measurement) -> PanelCheck:
    """Return the row of a panel for a check's measurement."""
    metric = measured.metric
    return PanelCheck(
        check.id,
        check.family,
        check.metric,
        measured.unit,
        metric.direction,
        measured.n,
        scale=metric.scale,
    )


@dataclass(frozen=True, eq=False)
class Values:
    """The values of networks in the checks of one network.

    Attributes:
        rows: The checks.
        values: The values, (networks, rows); NaN where a check does not apply.
        rests: The values on the same clean images, (networks, rows); NaN without a perturbation.
        contributions: Array (networks, images that count) of contributions, by the check's id.
        wrong: The errors on clean images, (networks, images) bool.
    """

    rows: tuple[PanelCheck, ...]
    values: np.ndarray
    rests: np.ndarray
    contributions: Mapping[str, np.ndarray]
    wrong: np.ndarray

    def take(self, networks: np.ndarray) -> Values:
        """Return the values of some networks, by their positions."""
        contributions = {name: each[networks] for name, each in self.contributions.items()}
        return Values(
            self.rows,
            self.values[networks],
            self.rests[networks],
            contributions,
            self.wrong[networks],
        )


def values_of(
    logits: np.ndarray, checks: Checks, images: LabelledImages, *, contributing: bool = True
) -> Values:
    """Measure networks on some images by their logits, (networks, conditions, images, classes).

    Args:
        logits: The logits.
        checks: The checks.
        images: The images.
        contributing: Whether to keep what each image contributes, which reference models need.
    """
    shape = len(logits), len(checks.alone)
    values, rests = np.full(shape, np.nan), np.full(shape, np.nan)
    contributions: dict[str, np.ndarray] = {}
    rows: dict[str, PanelCheck] = {}
    wrong = np.empty((len(logits), len(images)), bool)
    half = one_in(2, images)
    for network, of_network in enumerate(logits):
        seen = Seen(of_network, checks.conditions, images, half)
        wrong[network] = ~seen.clean.correct
        for at, check in enumerate(checks.alone):
            try:
                measured = measurement_of(check, seen)
            except NotApplicableError:
                continue
            rows.setdefault(check.id, row_of(check, measured))
            values[network, at] = measured.value
            rests[network, at] = np.nan if measured.rest is None else measured.rest
            if contributing and measured.each is not None:
                _keep(contributions, check.id, len(logits), network, measured.each)
    known = [at for at, check in enumerate(checks.alone) if check.id in rows]
    return Values(
        tuple(rows[checks.alone[at].id] for at in known),
        values[:, known],
        rests[:, known],
        contributions,
        wrong,
    )


def _keep(
    contributions: dict[str, np.ndarray], name: str, networks: int, network: int, each: np.ndarray
) -> None:
    """Keep what images contribute, reals as float32 as in a record of the gate."""
    if name not in contributions:
        kind = each.dtype if each.dtype.name in {"bool", "int8"} else np.dtype(np.float32)
        contributions[name] = np.zeros((networks, len(each)), kind)
    contributions[name][network] = each


def first_images(images: LabelledImages, count: int) -> LabelledImages:
    """Return the first of the images."""
    return images.take(torch.arange(count))


def joined(parts: Sequence[Values]) -> Values:
    """Return the values of several batches of networks as one."""
    first = parts[0]
    names = [
        name for name in first.contributions if all(name in part.contributions for part in parts)
    ]
    contributions = {
        name: np.concatenate([part.contributions[name] for part in parts]) for name in names
    }
    return Values(
        first.rows,
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.rests for part in parts]),
        contributions,
        np.concatenate([part.wrong for part in parts]),
    )
