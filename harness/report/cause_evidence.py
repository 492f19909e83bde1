"""Evidence for the cause of failures: failing checks by area, with their deviations.

Deviations are in standard deviations of the reference models.
"""

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

CLEAN = "clean images"
CLASS_AREA = "classes"
GEOMETRY_AREA = "geometry"
CORRUPTION_AREA = "corruptions"
CONFIDENCE_AREA = "confidence"
ATTENTION_AREA = "attention"
GROUP_AREA = "groups"
OTHER_AREA = "other checks"
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
"""A cause stands apart if its checks deviate by this multiple of the largest other deviation."""
SWAPPED = 1 / 4
"""Smallest share of a swapped class that is newly predicted as the other class."""
BESIDE = 1 / 4
"""Smallest deviation of a check that bears on the cause, as a share of the largest.

Smaller deviations follow from the cause of the largest.
"""


@dataclass(frozen=True)
class FailingCheck:
    """A failing check with its area.

    Attributes:
        verdict: the verdict of the check.
        area: what the check is about.
        deviation: its deviation from the reference models, in their standard deviations, at least
            0. Without reference models it is `FAR`.
        miss: by how much the check misses its threshold, in the same unit; 0 if unknown.
    """

    verdict: Verdict
    area: str
    deviation: float
    miss: float

    @classmethod
    def of(cls, verdict: Verdict) -> FailingCheck:
        """Return the failing check of a verdict."""
        measured = deviation(verdict)
        size = FAR if measured is None else max(measured, 0.0)
        return cls(verdict, area_of(verdict), size, _miss(verdict))

    @property
    def about_one(self) -> bool:
        """Return whether it is about one class or one pair, named or the worst."""
        if self.verdict.check.class_name or self.area == CLASS_AREA:
            return True
        metric = METRICS.get(self.verdict.metric)
        return metric is not None and metric.about_one


@dataclass(frozen=True)
class Swap:
    """Two classes that are predicted as each other.

    Attributes:
        ways: for each of the two classes its name, the share that is predicted as the other, and
            that share before.
        share: the part of the new errors that these two confusions make up.
    """

    ways: tuple[tuple[str, float, float], tuple[str, float, float]]
    share: float


def swap_in(overview: Overview) -> Swap | None:
    """Return the two classes that explain at least half of the new errors, or None.

    New errors are those beyond the incumbent's. At least a quarter of the images of either class
    must be newly predicted as the other. Other errors may follow from that: a network that has
    learned two swapped classes also predicts a third as one of them.
    """
    incumbent = overview.of_recipe
    if incumbent is None or incumbent is overview.models[0]:
        return None
    counts = np.array(overview.models[0].confusion)
    counts_before = np.array(incumbent.confusion)
    images = counts.sum(axis=1)
    shares = _row_shares(counts, images)
    shares_before = _row_shares(counts_before, images)

    new_shares = shares - shares_before
    np.fill_diagonal(new_shares, 0.0)
    both_ways = np.minimum(new_shares, new_shares.T)
    first, second = sorted(divmod(int(both_ways.argmax()), len(images)))

    more = counts - counts_before
    new_errors = more.sum() - np.trace(more)
    errors_of_both = more[first, second] + more[second, first]
    if both_ways[first, second] < SWAPPED or new_errors <= 0 or errors_of_both < new_errors / 2:
        return None

    def way(true: int, predicted: int) -> tuple[str, float, float]:
        now, before = shares[true, predicted], shares_before[true, predicted]
        return overview.classes[true], float(now), float(before)

    ways = (way(first, second), way(second, first))
    return Swap(ways, min(float(errors_of_both / new_errors), 1.0))


def _row_shares(counts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return counts by true class (C, C) as shares of its images (C,); 0 without images."""
    shares = np.zeros(counts.shape)
    np.divide(counts, images[:, None], out=shares, where=images[:, None] > 0)
    return shares


class CauseEvidence:
    """Verdicts on the candidate, and what they show of a cause.

    Attributes:
        verdicts: all verdicts on the candidate.
        failing: failing checks that deviate by at least a quarter of the largest deviation, without
            those of an area that is a cause of its own, such as batch norms. Predictions are
            compared with predictions alone: log loss and risk have no largest value, so they would
            outweigh an accuracy of zero.
        largest_of_own_areas: the largest deviation of the failing checks in such areas.
        areas: the areas of `failing`.
        clean_holds: whether no check of all clean images is in `failing`.
        clean_passes: whether no check of all clean images fails.
        never_predicted: the classes that the candidate never predicts, with the number of their
            images. Without an overview, such as in the quick profile, accuracies of classes tell.
        predicted: all other classes.
        swap: two classes that are predicted as each other, against the incumbent.
        lost: by how much each class lies below the reference models on clean images, at least 0.
        carrying: the two classes that carry most of this loss; none if others lose as well.
        kinds: the mean deviation by kind of corruption.
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
        deviations = [failing.deviation for failing in self.failing if counts(failing)]
        return max(deviations, default=0.0)

    def strongest_in(self, area: str) -> float:
        """Return the largest deviation of the failing checks of an area; 0 without any."""
        return self.strongest(lambda failing: failing.area == area)

    def accuracy_on_clean(self) -> float:
        """Return the largest deviation of failing checks of predictions on all clean images."""
        return self.strongest(lambda failing: failing.area == CLEAN and not failing.about_one)

    def accuracy_of_all(self) -> float:
        """Return the largest deviation of failing checks of predictions over classes and groups."""
        other_areas = {CONFIDENCE_AREA, ATTENTION_AREA, GROUP_AREA}

        def counts(failing: FailingCheck) -> bool:
            return not failing.about_one and failing.area not in other_areas

        return self.strongest(counts)

    def better(self, by: float) -> list[str]:
        """Return the kinds of corruption that are better by so much, the best first.

        Args:
            by: smallest difference, in standard deviations of the reference models.
        """
        better_kinds = [kind for kind in self.kinds if self.kinds[kind] <= -by]
        return sorted(better_kinds, key=lambda kind: self.kinds[kind])

    def mostly(self, area: str) -> bool:
        """Return whether an area has most of the evidence while clean accuracy holds.

        The area then has at least half of it and stands apart from clean images. The evidence of a
        check is its squared deviation, as in a sum of squares.
        """
        if not self.clean_holds or area not in self.areas:
            return False
        inside = sum(failing.deviation**2 for failing in self.failing if failing.area == area)
        total = sum(failing.deviation**2 for failing in self.failing)
        stands_apart = self.strongest_in(area) >= APART * self.accuracy_on_clean()
        return stands_apart and 2 * inside >= total


def area_of(verdict: Verdict) -> str:
    """Return what a check is about.

    A check that measures probabilities on all images is about confidence, unless it compares two
    views of an image, which shows how well the model knows a perturbation.
    """
    metric = METRICS.get(verdict.metric)
    family = verdict.check.family
    compares_views = family in FAMILIES and FAMILIES[family].area == GEOMETRY_AREA
    if metric and metric.of_probabilities and not metric.names_cause and not compares_views:
        return CONFIDENCE_AREA
    for area, families in AREAS.items():
        if family in families:
            return area
    if family in FAMILIES and FAMILIES[family].area:
        return FAMILIES[family].area
    return OTHER_AREA


def own_areas() -> dict[str, Family]:
    """Return the families whose area is a cause of its own, by area."""
    return {family.area: family for family in FAMILIES.values() if family.explains}


def is_of_class(verdict: Verdict) -> bool:
    """Return whether a check is of the accuracy of a class on clean images."""
    check = verdict.check
    return (check.family, verdict.metric, check.pose) == ("class", ACCURACY.name, IDENTITY)


def _bearing(failing: Sequence[FailingCheck]) -> list[FailingCheck]:
    """Return the failing checks that bear on the cause, since they deviate by enough."""
    of_predictions = [check for check in failing if check.area != CONFIDENCE_AREA]
    largest = max((check.deviation for check in failing), default=0.0)
    largest_of_predictions = max((check.deviation for check in of_predictions), default=0.0)

    bearing = []
    for check in failing:
        compared = largest if check.area == CONFIDENCE_AREA else largest_of_predictions
        if check.deviation >= BESIDE * compared or deviation(check.verdict) is None:
            bearing.append(check)
    return bearing


def _miss(verdict: Verdict) -> float:
    """Return by how much a value misses its threshold; 0 if unknown.

    The unit is a standard deviation of the reference models.
    """
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
    """Return the two classes that carry nearly all of the lost accuracy, or none."""
    if len(lost) < LEAST_CLASSES:
        return []
    largest = sorted(lost, key=lambda name: -lost[name])[:TWO]
    carried = sum(lost[name] for name in largest)
    if carried <= 0 or carried < CARRY * sum(lost.values()):
        return []
    return largest


def _deviations_by_corruption(verdicts: Iterable[Verdict]) -> dict[str, float]:
    kinds: dict[str, list[float]] = {}
    for verdict in verdicts:
        if verdict.check.family != "corruption" or verdict.metric != ACCURACY.name:
            continue
        measured = deviation(verdict)
        if measured is not None:
            kind = str(verdict.check.keys.get("corruption")).replace("-", " ")
            kinds.setdefault(kind, []).append(measured)
    return {kind: float(np.mean(values)) for kind, values in kinds.items()}


def _never_correct(of_classes: Sequence[Verdict]) -> dict[str, int]:
    """Return the only class without a correct prediction, with the number of its images.

    It is empty if other classes lose as well, since their images may be predicted as this one.
    """
    missing = {}
    lost = lost_of_missing = 0.0
    for verdict in of_classes:
        expected = _expected_accuracy(verdict)
        lost += max(expected - (verdict.value or 0.0), 0.0)
        if verdict.value == 0 and verdict.n * expected >= EXPECTED:
            missing[str(verdict.check.class_name)] = verdict.n
            lost_of_missing += expected
    if len(missing) != 1 or lost_of_missing < CARRY * lost:
        return {}
    return missing


def _expected_accuracy(verdict: Verdict) -> float:
    """Return the mean accuracy of the reference models; 0.5 if it is unknown."""
    panel = verdict.check.panel
    if panel is None or panel.mean is None:
        return 0.5
    return panel.mean
