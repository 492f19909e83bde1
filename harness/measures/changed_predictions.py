"""Distance of an artifact from its original on the same images: changed predictions and confidences.

An artifact is an export, a quantized or a compiled copy. Each measurement has a quantity with exact bounds, see
`harness.measures.equivalence`. Most need no labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures import equivalence, selection
from harness.measures.confidence import signed_calibration_gaps
from harness.measures.metric import Measurement, Metric, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.inference import Predictions


_DIFFER, _GONE = "that differ from the original's", "that are lost, less those gained"
_names: list[str] = []


def _metric(name: str, words: str, unit: Unit = Unit.SHARE) -> Metric:
    _names.append(name)
    return Metric(name, unit, better="less", words=words)


PREDICTIONS_CHANGED = _metric("predictions_changed", f"predictions {_DIFFER}")
POOLED_CHANGED = _metric("pooled_predictions_changed", f"predictions {_DIFFER}, pooled over views")
CONSENSUS_CHANGED = _metric(
    "consensus_predictions_changed", f"predictions {_DIFFER} on the consensus set"
)
WORST_CLASS_CHANGED = _metric(
    "worst_class_predictions_changed", f"predictions of one class {_DIFFER}"
)
WORST_GROUP_CHANGED = _metric(
    "worst_group_predictions_changed", f"predictions of one group of images {_DIFFER}"
)
CORRECT_PREDICTIONS_LOST = _metric(
    "correct_predictions_lost", f"correct predictions of the original {_GONE}", Unit.DIFFERENCE
)
WORST_CLASS_LOST = _metric(
    "worst_class_correct_predictions_lost",
    f"correct predictions of one class {_GONE}",
    Unit.DIFFERENCE,
)
MOVED = _metric("confidence_moved", "mean total variation between artifact and original")
MOVED_P99 = _metric(
    "confidence_moved_p99", "99th percentile of the total variation between artifact and original"
)
CALIBRATION_CHANGE = _metric(
    "calibration_error_change", "rise of the expected calibration error", Unit.DIFFERENCE
)
OF_ORIGINAL = frozenset(_names)
"""The names of these metrics."""
NOISE = 1e-5
"""Relative difference of logits between float32 backends; classes of the original within it are a tie."""
_MOSTLY = 0.8
"""Least share of a class's images that proves another position of the class."""
_TWO_SIDED = 0.975


def changed(artifact: Predictions, original: Predictions) -> np.ndarray:
    """Return which predictions of the artifact differ from the original's, (N,) bool.

    A tie is no change: if two classes of the original differ only by float noise, both count as its prediction. Raises
    `InputError` for other images.
    """
    selection.expect_same_images("artifact and original", artifact, original)
    differ = np.asarray(artifact.predicted != original.predicted)
    if len(at := np.flatnonzero(differ)):
        logits = original.exactly(at).astype(np.float64)
        rows = np.arange(len(at))
        first, other = logits[rows, original.predicted[at]], logits[rows, artifact.predicted[at]]
        apart, size = np.abs(first - other), np.maximum(np.abs(first), np.abs(other))
        differ[at[np.isfinite(size) & (apart <= NOISE * size)]] = False
    return differ


def class_places(
    artifact: np.ndarray, original: np.ndarray, *, classes: int, mostly: float = _MOSTLY
) -> tuple[int, ...] | None:
    """Return the artifact's position of each class of the original, by predicted classes (N,); None for the same order.

    Classes have changed positions if most images of each, the share `mostly`, are predicted as another one, and no two
    as the same.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.bincount(original * classes + artifact, minlength=classes**2).reshape(
        classes, classes
    )
    places = tuple(int(place) for place in linear_sum_assignment(-table)[1])
    moved = [
        number for number, place in enumerate(places) if place != number and table[number].any()
    ]
    clear = all(table[number, places[number]] >= mostly * table[number].sum() for number in moved)
    return (
        places
        if moved and clear and sorted(moved) == sorted(places[number] for number in moved)
        else None
    )


def order_in_words(
    places: Sequence[int], classes: Sequence[str], *, who: str = "the artifact"
) -> str:
    """Say which classes have changed places, of `who`."""
    moved = [
        f"{classes[at]} is predicted as {classes[to]}" for at, to in enumerate(places) if at != to
    ]
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""  # noqa: PLR2004  Three fit into a sentence.
    return f"{who} has its classes in another order: {', '.join(moved[:3])}{more}"


def class_order(artifact: Predictions, original: Predictions) -> str:
    """Say which classes have changed places, see `class_places`; empty for none."""
    places = class_places(artifact.predicted, original.predicted, classes=len(original.classes))
    return "" if places is None else order_in_words(places, original.classes)


def top_change(artifact: Predictions, original: Predictions, differ: np.ndarray) -> str:
    """Return the most frequent change, the first of equals, among the images that `differ`, (N,) bool; "" for none."""
    if not (top := selection.commonest(original.predicted, artifact.predicted, differ)):
        return ""
    before, now = (original.classes[number] for number in top[0])
    return f"most often {before} → {now}"


def lost_and_gained(
    artifact: Predictions, original: Predictions, differ: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which predictions that `differ` are no longer correct, and which are now correct; each (N,) bool."""
    return (
        differ & original.correct & ~artifact.correct,
        differ & artifact.correct & ~original.correct,
    )


def predictions_changed(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of predictions that differ from the original's, in [0, 1], with exact bounds.

    The failures are the changes, the most confident first.
    """
    return _changed_among(
        PREDICTIONS_CHANGED, artifact, original, np.ones(len(artifact.predicted), bool)
    )


def pooled_predictions_changed(
    artifact: Sequence[Predictions], original: Sequence[Predictions]
) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], over several views of the same images.

    The bounds come from a bootstrap over images, since the views of an image change together. The failures are images
    that change in some view, the most confident first.
    """
    if not artifact:
        raise InputError(
            'predictions changed: the check names no views; add some, such as `under = ["corners"]`'
        )
    views = np.stack(
        [changed(mine, theirs) for mine, theirs in zip(artifact, original, strict=True)]
    )
    said = f"{int(views.sum()):,} predictions of {views.shape[1]:,} images in {len(views)} views change"
    detail = _detail(artifact[0], original[0], views[0], said if len(views) > 1 else "")
    failures = _most_confident(views, *artifact)
    return measured(
        POOLED_CHANGED, equivalence.mean(views.mean(axis=0)), detail=detail, failures=failures
    )


def consensus_predictions_changed(
    artifact: Predictions, original: Predictions, among: np.ndarray
) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], for the images `among` the consensus set, (N,) bool."""
    if not among.any():
        raise NotApplicableError(f"none of {len(among)} images is in the consensus set")
    return _changed_among(CONSENSUS_CHANGED, artifact, original, among)


def worst_class_predictions_changed(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the class with the largest share, in [0, 1].

    Classes are the original's predictions, so no labels are needed. A class with too few images to prove the tolerance
    can only prove a difference.
    """
    of_class = np.asarray(original.classes)[original.predicted]
    return _worst_changed(WORST_CLASS_CHANGED, artifact, original, of_class, tolerance)


def worst_group_predictions_changed(
    artifact: Predictions, original: Predictions, *, by: str | None, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the group with the largest share; `by` is a column of the data.

    Raises `NotApplicableError` without a column, and `InputError` for a column that the data lack.
    """
    if by is None:
        raise NotApplicableError("no column of groups is named")
    return _worst_changed(
        WORST_GROUP_CHANGED, artifact, original, selection.column(original, by), tolerance
    )


def correct_predictions_lost(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of correct predictions of the original that are lost, less those gained, in [-1, 1].

    The bounds are conservative, see `net_limits`. The failures are the lost ones, the most confident first.
    """
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    counts = int(lost.sum()), int(gained.sum())
    return measured(
        CORRECT_PREDICTIONS_LOST,
        equivalence.net_loss(*counts, len(lost)),
        detail="{:,} lost, {:,} gained".format(*counts),
        failures=_most_confident(lost[None], artifact),
    )


def worst_class_correct_predictions_lost(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the net loss of correct predictions in the true class with the largest loss, in [-1, 1]."""
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    counted = (original.labels[among] for among in (lost, gained, np.ones_like(lost)))
    of_class = (np.bincount(labels, minlength=len(original.classes)).tolist() for labels in counted)
    counts = {
        name: each for name, *each in zip(original.classes, *of_class, strict=True) if each[2]
    }
    quantity, few = _worst(
        {name: equivalence.net_loss(*each) for name, each in counts.items()}, tolerance
    )
    detail = "{}: {:,} lost, {:,} gained of {:,}{}".format(
        quantity.group, *counts[quantity.group], few
    )
    return measured(
        WORST_CLASS_LOST, quantity, detail=detail, failures=_most_confident(lost[None], artifact)
    )


def confidence_moved(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the mean total variation between both probability vectors of an image, in [0, 1].

    Total variation is half the sum of absolute differences: the largest difference for any set of classes.
    """
    each = total_variation(artifact, original)
    detail, failures = f"at most {each.max():.3f} for an image", np.argsort(-each, kind="stable")
    return measured(MOVED, equivalence.mean(each), detail=detail, failures=failures)


def confidence_moved_p99(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the 99th percentile of the images' total variation, in [0, 1]; bounds are order statistics."""
    each = total_variation(artifact, original)
    detail, failures = (
        f"mean {each.mean():.4f}, at most {each.max():.3f} for an image",
        np.argsort(-each, kind="stable"),
    )
    return measured(MOVED_P99, equivalence.quantile(each, 0.99), detail=detail, failures=failures)


def calibration_error_change(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the artifact's expected calibration error less the original's, in [-1, 1].

    The bounds come from a bootstrap of each image's contribution to both errors, by the delta method.
    """
    selection.expect_same_images("artifact and original", artifact, original)
    mine, theirs = (signed_calibration_gaps(predictions) for predictions in (artifact, original))
    detail = f"{mine.mean():.3f}, the original's {theirs.mean():.3f}"
    return measured(CALIBRATION_CHANGE, equivalence.mean(mine - theirs), detail=detail)


def total_variation(artifact: Predictions, original: Predictions) -> np.ndarray:
    """Return half the sum of absolute differences of the probabilities of each image, (N,) in [0, 1]."""
    selection.expect_same_images("artifact and original", artifact, original)
    apart = np.abs(artifact.probabilities.astype(np.float64) - original.probabilities)
    return np.asarray(np.clip(apart.sum(axis=1) / 2, 0, 1))


def measured(metric: Metric, quantity: equivalence.Quantity, **more: Any) -> Measurement:
    """Return a quantity as a measurement; its 95% interval has the quantity's bounds within the metric's range."""
    low, high = (float(np.clip(limit, *metric.range)) for limit in quantity.limits(_TWO_SIDED))
    return Measurement(
        metric, quantity.value + 0.0, quantity.n, (low, high), quantity=quantity, **more
    )


def _changed_among(
    metric: Metric, artifact: Predictions, original: Predictions, among: np.ndarray
) -> Measurement:
    differ = changed(artifact, original) & among
    quantity, detail = (
        equivalence.proportion(int(differ.sum()), int(among.sum())),
        _detail(artifact, original, differ),
    )
    return measured(
        metric, quantity, detail=detail, failures=_most_confident(differ[None], artifact)
    )


def _detail(
    artifact: Predictions, original: Predictions, differ: np.ndarray, counted: str = ""
) -> str:
    """Say how many predictions change, after another order of the classes."""
    said = [f"{int(differ.sum()):,} predictions change", top_change(artifact, original, differ)]
    return "; ".join(
        filter(None, [class_order(artifact, original), *([counted] if counted else said)])
    )


def _worst_changed(
    metric: Metric,
    artifact: Predictions,
    original: Predictions,
    groups: np.ndarray,
    tolerance: float | None,
) -> Measurement:
    differ, names = changed(artifact, original), groups.astype(str)
    counts = {
        name: (int(differ[names == name].sum()), int((names == name).sum()))
        for name in np.unique(names).tolist()
    }
    parts = {name: equivalence.proportion(*each) for name, each in counts.items()}
    quantity, few = _worst(parts, tolerance)
    detail = "{}: {:,} of {:,} change{}".format(quantity.group, *counts[quantity.group], few)
    shown = differ & (names == quantity.group)
    return measured(
        metric, quantity, detail=detail, failures=_most_confident(shown[None], artifact)
    )


def _worst(
    parts: Mapping[str, equivalence.Quantity], tolerance: float | None
) -> tuple[equivalence.Quantity, str]:
    """Return the quantity of the worst part, and a note on parts that are too small."""
    worst = equivalence.worst(
        parts, least=1 if tolerance is None else equivalence.least_images(tolerance)
    )
    few = (
        f"; {worst.unproved} of {len(parts)} have too few images to prove the tolerance"
        if worst.unproved
        else ""
    )
    return worst, few


def _most_confident(views: np.ndarray, *artifact: Predictions) -> np.ndarray:
    """Return the positions of images that change in some view, the most confident changes first."""
    seen = zip(artifact, views, strict=True)
    sure = np.max([np.where(view, mine.confidence_as_answered, -1) for mine, view in seen], axis=0)
    return selection.ordered(np.asarray(views.any(axis=0)), -sure)
