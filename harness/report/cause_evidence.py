"""Evidence for the cause of failures: failing checks by area, and how far they deviate from reference models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.checks.families import FAMILIES
from harness.measures import METRICS
from harness.measures.accuracy import ACCURACY
from harness.perturb import IDENTITY
from harness.report.signs import FAR, deviation
from harness.run.overview import EXPECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness.base.features import Family
    from harness.checks import Verdict
    from harness.run.overview import Overview

CLEAN, CLASS_AREA, GEOMETRY_AREA, CORRUPTION_AREA = (
    "clean images",
    "classes",
    "geometry",
    "corruptions",
)
CONFIDENCE_AREA, ATTENTION_AREA, GROUP_AREA, OTHER_AREA = (
    "confidence",
    "attention",
    "groups",
    "other checks",
)
AREAS = {
    CLEAN: ("clean", "regression", "flips"),
    CLASS_AREA: ("class", "class-difference", "pairs"),
    GEOMETRY_AREA: ("rotation", "shift", "flip", "pose", "search", "gain"),
    CORRUPTION_AREA: ("corruption",),
    CONFIDENCE_AREA: ("confidence",),
    ATTENTION_AREA: ("attention",),
    GROUP_AREA: ("slice",),
    "unknown images": ("unknown",),
}
"""Families by what they are about; all others are other checks, or have an area of their own."""
OF_ALL_IMAGES = {"clean", "regression"}
"""Families of the accuracy on all clean images."""
TWO = 2
LEAST_CLASSES = 5
"""Classes that are measured at least to say that some of them carry a confusion."""
CARRY = 0.85
"""Share of the accuracy lost by all classes that one or two of them carry if they are the cause."""
APART = 2.0
"""Smallest deviation of the checks of a cause that stands apart, as a multiple of the largest of those compared."""
SWAPPED = 1 / 4
"""Share of the images of a class, at least, that are predicted as another one and were not before."""
BESIDE = 1 / 4
"""Smallest deviation of a check that bears on the cause, as a share of the largest; smaller ones follow from it."""


@dataclass(frozen=True)
class FailingCheck:
    """A failing check with its area and its deviation from reference models, in their standard deviations.

    `miss` is by how much the check misses its threshold. Without reference models both are unknown. Such a check then
    counts as one that deviates by `FAR`.
    """

    verdict: Verdict
    area: str
    deviation: float
    miss: float

    @classmethod
    def of(cls, verdict: Verdict) -> FailingCheck:
        """Return the failing check of a verdict."""
        away = deviation(verdict)
        return cls(
            verdict, area_of(verdict), FAR if away is None else max(away, 0.0), _miss(verdict)
        )

    @property
    def about_one(self) -> bool:
        """Return whether it is about one class or one pair, named or the worst."""
        metric = METRICS.get(self.verdict.metric)
        return bool(
            self.verdict.check.class_name
            or self.area == CLASS_AREA
            or (metric and metric.about_one)
        )


@dataclass(frozen=True)
class Swap:
    """Two classes that are predicted as each other: `ways` has each class, its share predicted so, and that before.

    `share` is the part of the new errors that are of these two ways.
    """

    ways: tuple[tuple[str, float, float], tuple[str, float, float]]
    share: float


def swap_in(overview: Overview) -> Swap | None:
    """Return the two classes that explain half of the errors beyond the incumbent's, at least; None without such.

    Of either class, a quarter of the images must be predicted as the other, beyond those of the incumbent. Other errors
    may follow: a network that has learned two swapped classes also predicts a third as one of them.
    """
    other = overview.of_recipe
    if other is None or other is overview.models[0]:
        return None
    now, before = np.array(overview.models[0].confusion), np.array(other.confusion)
    images = now.sum(axis=1)
    taken, usual = (
        np.divide(counts, images[:, None], out=np.zeros(counts.shape), where=images[:, None] > 0)
        for counts in (now, before)
    )
    new = taken - usual
    np.fill_diagonal(new, 0.0)
    both_ways = np.minimum(new, new.T)
    first, second = sorted(divmod(int(both_ways.argmax()), len(images)))
    more = now - before
    errors = more.sum() - np.trace(more)
    of_both = more[first, second] + more[second, first]
    if both_ways[first, second] < SWAPPED or errors <= 0 or of_both < errors / 2:
        return None

    def way(at: int, to: int) -> tuple[str, float, float]:
        return overview.classes[at], float(taken[at, to]), float(usual[at, to])

    ways = way(first, second), way(second, first)
    return Swap(ways, min(float(of_both / errors), 1.0))


class Evidence:
    """Verdicts on the candidate, and those of them that tell of a cause.

    `failing` are failing checks that deviate by at least a quarter of the largest deviation. Those of an area that is a
    cause of its own, such as batch norms, are left out. `largest_of_own_areas` is their largest deviation from
    reference models. Predictions are compared with predictions alone: log loss and risk have no largest value, so they
    would outweigh an accuracy of zero.
    `lost` is by how much each class lies below reference models on clean images, a share not below 0. `carrying` are
    the two classes that carry most of it, none if others lose as well. `kinds` is the mean deviation by corruption.
    `never_predicted` has the classes that the candidate never predicts, with the number of their images, and
    `predicted` has all others. Without an overview, such as in the quick profile, the accuracy of a class tells.
    `swap` are two classes that are predicted as each other, against the incumbent.
    """

    def __init__(self, verdicts: Sequence[Verdict], overview: Overview | None = None) -> None:
        self.verdicts = verdicts
        of_classes = [
            verdict for verdict in verdicts if is_of_class(verdict) and verdict.check.class_name
        ]
        if overview is None:
            classes = [str(verdict.check.class_name) for verdict in of_classes]
            self.never_predicted = _never_correct(of_classes)
        else:
            classes = list(overview.classes)
            self.never_predicted = overview.never_predicted
        self.predicted = [name for name in classes if name not in self.never_predicted]

        own = own_areas()
        failing = [FailingCheck.of(verdict) for verdict in verdicts if verdict.status == "fail"]
        of_own_areas = [deviation(check.verdict) or 0.0 for check in failing if check.area in own]
        self.largest_of_own_areas = max(of_own_areas, default=0.0)
        self.failing = _bearing([check for check in failing if check.area not in own])
        self.areas = {failing.area for failing in self.failing}
        self.clean_holds = all(
            failing.verdict.check.family not in OF_ALL_IMAGES for failing in self.failing
        )
        self.clean_passes = not any(
            verdict.status == "fail" and verdict.check.family in OF_ALL_IMAGES
            for verdict in verdicts
        )
        self.swap = None if overview is None else swap_in(overview)
        self.lost = _lost_by_class(of_classes)
        self.carrying = _carrying(self.lost)
        self.kinds = _deviations_by_corruption(verdicts)

    def strongest(self, counts: Callable[[FailingCheck], bool] = lambda _: True) -> float:
        """Return the largest deviation of the failing checks that count; 0 without any."""
        return max((failing.deviation for failing in self.failing if counts(failing)), default=0.0)

    def strongest_in(self, area: str) -> float:
        """Return the largest deviation of the failing checks of an area; 0 without any."""
        return self.strongest(lambda failing: failing.area == area)

    def accuracy_on_clean(self) -> float:
        """Return the largest deviation of failing checks of predictions on clean images of all classes."""
        return self.strongest(lambda failing: failing.area == CLEAN and not failing.about_one)

    def accuracy_of_all(self) -> float:
        """Return the largest deviation of failing checks of predictions that are not about one class or group."""
        return self.strongest(
            lambda failing: (
                not failing.about_one
                and failing.area not in {CONFIDENCE_AREA, ATTENTION_AREA, GROUP_AREA}
            )
        )

    def better(self, by: float) -> list[str]:
        """Return the kinds of corruption that are better by so many standard deviations, the best first."""
        return sorted(
            (kind for kind in self.kinds if self.kinds[kind] <= -by),
            key=lambda kind: self.kinds[kind],
        )

    def mostly(self, area: str) -> bool:
        """Return whether clean accuracy holds, an area stands apart from clean images and has half of all evidence.

        The evidence of a check is its squared deviation, as in a sum of squares.
        """
        if not self.clean_holds or area not in self.areas:
            return False
        inside = sum(failing.deviation**2 for failing in self.failing if failing.area == area)
        total = sum(failing.deviation**2 for failing in self.failing)
        return 2 * inside >= total and self.strongest_in(area) >= APART * self.accuracy_on_clean()


def area_of(verdict: Verdict) -> str:
    """Return what a check is about; one that measures probabilities on all images is about confidence."""
    name = verdict.check.family
    metric = METRICS.get(verdict.metric)
    if metric and metric.of_probabilities and not metric.names_cause:
        return CONFIDENCE_AREA
    known = next((area for area, families in AREAS.items() if name in families), "")
    return known or (FAMILIES[name].area if name in FAMILIES else "") or OTHER_AREA


def own_areas() -> dict[str, Family]:
    """Return the families whose area is a cause of its own, by area."""
    return {family.area: family for family in FAMILIES.values() if family.explains}


def is_of_class(verdict: Verdict) -> bool:
    """Return whether a check is of the accuracy of a class on clean images."""
    check = verdict.check
    return (check.family, verdict.metric, check.pose) == ("class", ACCURACY.name, IDENTITY)


def _bearing(failing: Sequence[FailingCheck]) -> list[FailingCheck]:
    most = max((check.deviation for check in failing), default=0.0)
    of_predictions = [check.deviation for check in failing if check.area != CONFIDENCE_AREA]
    most_of_predictions = max(of_predictions, default=0.0)

    bearing = []
    for check in failing:
        largest = most if check.area == CONFIDENCE_AREA else most_of_predictions
        if check.deviation >= BESIDE * largest or deviation(check.verdict) is None:
            bearing.append(check)
    return bearing


def _miss(verdict: Verdict) -> float:
    """Return by how much a value misses its threshold, in standard deviations of reference models; 0 if unknown."""
    reference = verdict.check.reference
    if verdict.value is None or verdict.threshold is None or reference is None or not reference.std:
        return 0.0
    return abs(verdict.value - verdict.threshold) / reference.std


def _lost_by_class(of_classes: Iterable[Verdict]) -> dict[str, float]:
    lost = {}
    for verdict in of_classes:
        panel = verdict.check.panel
        if verdict.value is not None and panel and panel.mean is not None:
            lost[str(verdict.check.class_name)] = max(panel.mean - verdict.value, 0.0)
    return lost


def _carrying(lost: dict[str, float]) -> list[str]:
    most = sorted(lost, key=lambda name: -lost[name])[:TWO]
    carried = sum(lost[name] for name in most)
    enough = len(lost) >= LEAST_CLASSES and carried > 0 and carried >= CARRY * sum(lost.values())
    return most if enough else []


def _deviations_by_corruption(verdicts: Iterable[Verdict]) -> dict[str, float]:
    kinds: dict[str, list[float]] = {}
    for verdict in verdicts:
        is_share = (verdict.check.family, verdict.metric) == ("corruption", ACCURACY.name)
        away = deviation(verdict)
        if is_share and away is not None:
            kind = str(verdict.check.keys.get("corruption")).replace("-", " ")
            kinds.setdefault(kind, []).append(away)
    return {kind: float(np.mean(values)) for kind, values in kinds.items()}


def _never_correct(of_classes: Sequence[Verdict]) -> dict[str, int]:
    """Return the only class without a correct prediction, with the number of its images.

    It is empty if other classes lose as well, since their images may be predicted as this one.
    """
    missing = {
        str(verdict.check.class_name): verdict.n
        for verdict in of_classes
        if verdict.value == 0 and verdict.n * _usual_accuracy(verdict) >= EXPECTED
    }
    lost = sum(
        max(_usual_accuracy(verdict) - (verdict.value or 0.0), 0.0) for verdict in of_classes
    )
    of_missing = sum(
        _usual_accuracy(verdict) for verdict in of_classes if verdict.check.class_name in missing
    )
    return missing if len(missing) == 1 and of_missing >= CARRY * lost else {}


def _usual_accuracy(verdict: Verdict) -> float:
    panel = verdict.check.panel
    return 0.5 if panel is None or panel.mean is None else panel.mean
