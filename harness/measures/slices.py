"""Accuracy of groups of images, such as a camera or a site, and the gap between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures.accuracy import share_right
from harness.measures.classification import likely_most_confident
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.statistics import proportion_interval

if TYPE_CHECKING:
    from harness.inference import Predictions

GROUP_ACCURACY = Metric("group_accuracy", Unit.SHARE, better="more")
WORST_GROUP_ACCURACY = Metric("worst_group_accuracy", Unit.SHARE, better="more", words="the worst group")
GROUP_GAP = Metric("group_gap", Unit.DIFFERENCE, better="less", words="the best group less the worst", range=(0.0, 1.0))
OF_GROUPS = frozenset({GROUP_ACCURACY.name, WORST_GROUP_ACCURACY.name, GROUP_GAP.name})


class _Served(NamedTuple):
    """A group, of how many images it is, and how many of them are right."""

    name: str
    n: int
    right: int

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        return proportion_interval(self.right, self.n)


def group_accuracy(predictions: Predictions, *, by: str, group: str) -> Measurement:
    """Return the share of right predictions in [0, 1] of the images of one group, such as `by` camera `group` front.

    The interval is Wilson's score interval (Wilson 1927). Raises `InputError` where the data have no groups of this
    kind, and `NotApplicableError` where no image at hand is of this one.
    """
    chosen = _column(predictions, by) == group
    if not chosen.any():
        raise NotApplicableError(f"none of the {len(chosen)} images at hand is of group {group!r} by {by!r}")
    return share_right(GROUP_ACCURACY, predictions, chosen)


def worst_group(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return the accuracy, in [0, 1], of the group that is served worst, of groups of at least `least` images.

    `n` counts the images of all these groups, which is the same for every model. The interval is Wilson's, of the
    group's own images (Wilson 1927); that it is the worst of several is not allowed for. Raises as `group_accuracy`
    does, and `NotApplicableError` for fewer than two groups.
    """
    groups = _served(predictions, by, least)
    worst = min(groups, key=lambda one: one.accuracy)
    return Measurement(
        WORST_GROUP_ACCURACY,
        worst.accuracy,
        sum(one.n for one in groups),
        worst.interval,
        detail=f"worst of {len(groups)} groups by {by}: {worst.name}, {worst.n} images",
        failures=_failures(predictions, by, worst),
        counted=worst.n,
    )


def group_gap(predictions: Predictions, *, by: str, least: int | None = None) -> Measurement:
    """Return by how much, in [0, 1], the best group's accuracy is above the worst's, as `worst_group` finds them.

    The interval is that of a difference of two independent proportions (Newcombe 1998, method 10), within [0, 1].
    """
    groups = _served(predictions, by, least)
    worst, best = min(groups, key=lambda one: one.accuracy), max(groups, key=lambda one: one.accuracy)
    gap = best.accuracy - worst.accuracy
    (low, high), (lower, upper) = best.interval, worst.interval
    down = math.hypot(best.accuracy - low, upper - worst.accuracy)
    up = math.hypot(high - best.accuracy, worst.accuracy - lower)
    return Measurement(
        GROUP_GAP,
        gap,
        sum(one.n for one in groups),
        (max(gap - down, 0.0), min(gap + up, 1.0)),
        detail=f"{best.name} {best.accuracy:.1%} of {best.n}, {worst.name} {worst.accuracy:.1%} of {worst.n} images",
        failures=_failures(predictions, by, worst),
    )


def _column(predictions: Predictions, by: str) -> np.ndarray:
    groups = predictions.images.groups
    if by not in groups:
        raise InputError(
            f"groups by {by!r}: the data have {', '.join(groups) or 'no groups'}; name one of these columns"
        )
    return groups[by]


def _served(predictions: Predictions, by: str, least: int | None) -> list[_Served]:
    """Return the groups that are large enough, by name."""
    names, members = np.unique(_column(predictions, by), return_inverse=True)
    counts = np.bincount(members, minlength=len(names))
    right = np.bincount(members, weights=predictions.correct, minlength=len(names)).astype(int)
    served = [
        _Served(str(name), int(n), int(hits))
        for name, n, hits in zip(names, counts, right, strict=True)
        if n >= (least or 1)
    ]
    if len(served) < 2:  # noqa: PLR2004  One has none to be worse than.
        of = f" of at least {least} images" if least else ""
        raise NotApplicableError(f"by {by!r} there are {len(served)} groups{of} at hand, and it takes two to compare")
    return served


def _failures(predictions: Predictions, by: str, group: _Served) -> np.ndarray:
    return likely_most_confident(predictions, ~predictions.correct & (_column(predictions, by) == group.name))
