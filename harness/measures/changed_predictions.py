"""Distance of an artifact from its original on the same images, in predictions and confidences.

An artifact is an export, a quantized or a compiled copy. Each measurement has a quantity with exact
bounds, see `harness.measures.equivalence`. Most need no labels.
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


_DIFFER = "that differ from the original's"
_GONE = "that are lost, less those gained"
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
"""Relative difference of logits between float32 backends.

Classes of the original within it are a tie.
"""
_MOSTLY = 0.8
"""Least share of a class's images that proves another position of the class."""
_NAMED = 3
"""Number of classes in another position that a sentence names."""
_TWO_SIDED = 0.975
"""Confidence of each bound of a two-sided 95% interval."""


def changed(artifact: Predictions, original: Predictions) -> np.ndarray:
    """Return which predictions of the artifact differ from the original's, (N,) bool.

    A tie is no change: if two classes of the original differ only by float noise, both count as its
    prediction. Raises `InputError` for other images.
    """
    selection.expect_same_images("artifact and original", artifact, original)
    differ = np.asarray(artifact.predicted != original.predicted)
    positions = np.flatnonzero(differ)
    if not len(positions):
        return differ

    logits = original.exactly(positions).astype(np.float64)
    rows = np.arange(len(positions))
    of_original = logits[rows, original.predicted[positions]]
    of_artifact = logits[rows, artifact.predicted[positions]]
    size = np.maximum(np.abs(of_original), np.abs(of_artifact))
    is_tie = np.isfinite(size) & (np.abs(of_original - of_artifact) <= NOISE * size)
    differ[positions[is_tie]] = False
    return differ


def class_places(
    artifact: np.ndarray, original: np.ndarray, *, classes: int, mostly: float = _MOSTLY
) -> tuple[int, ...] | None:
    """Return the artifact's position of each class of the original; None for the same order.

    Classes have changed positions if most images of each are predicted as another one, and no two
    as the same.

    >>> import numpy as np
    >>> original = np.array([0, 0, 1, 1])
    >>> class_places(1 - original, original, classes=2)
    (1, 0)

    Args:
        artifact: The artifact's predictions, (N,) int.
        original: The original's predictions, (N,) int.
        classes: The number of classes.
        mostly: The share that counts as most images of a class.
    """
    from scipy.optimize import linear_sum_assignment

    pairs = original * classes + artifact
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    _, assigned = linear_sum_assignment(-counts)
    places = tuple(int(place) for place in assigned)

    moved = []
    for number, place in enumerate(places):
        if place != number and counts[number].any():
            moved.append(number)
    clear = all(counts[number, places[number]] >= mostly * counts[number].sum() for number in moved)
    exchanged = sorted(moved) == sorted(places[number] for number in moved)
    if not moved or not clear or not exchanged:
        return None
    return places


def order_in_words(
    places: Sequence[int], classes: Sequence[str], *, who: str = "the artifact"
) -> str:
    """Say which classes have changed places, of `who`.

    >>> order_in_words((1, 0), ("a", "b"))
    'the artifact has its classes in another order: a is predicted as b, b is predicted as a'
    """
    moved = []
    for number, place in enumerate(places):
        if place != number:
            moved.append(f"{classes[number]} is predicted as {classes[place]}")

    sentence = f"{who} has its classes in another order: {', '.join(moved[:_NAMED])}"
    if len(moved) > _NAMED:
        sentence += f" and {len(moved) - _NAMED} more"
    return sentence


def class_order(artifact: Predictions, original: Predictions) -> str:
    """Say which classes have changed places, see `class_places`; empty for none."""
    places = class_places(artifact.predicted, original.predicted, classes=len(original.classes))
    if places is None:
        return ""
    return order_in_words(places, original.classes)


def top_change(artifact: Predictions, original: Predictions, differ: np.ndarray) -> str:
    """Return the most frequent change among the images that `differ`, (N,) bool; "" for none.

    Of equally frequent changes it is the first.
    """
    most_frequent = selection.commonest(original.predicted, artifact.predicted, differ)
    if most_frequent is None:
        return ""
    (before, now), _ = most_frequent
    return f"most often {original.classes[before]} → {original.classes[now]}"


def lost_and_gained(
    artifact: Predictions, original: Predictions, differ: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which predictions that `differ` are no longer correct, and which are now correct.

    All are (N,) bool.
    """
    lost = differ & original.correct & ~artifact.correct
    gained = differ & artifact.correct & ~original.correct
    return lost, gained


def predictions_changed(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of predictions that differ from the original's, in [0, 1].

    The bounds are exact. The failures are the changes, the most confident first.
    """
    all_images = np.ones(len(artifact.predicted), bool)
    return _changed_among(PREDICTIONS_CHANGED, artifact, original, all_images)


def pooled_predictions_changed(
    artifact: Sequence[Predictions], original: Sequence[Predictions]
) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], over several views of the images.

    The bounds come from a bootstrap over images, since the views of an image change together. The
    failures are images that change in some view, the most confident first.

    Args:
        artifact: The artifact's predictions for each view.
        original: The original's predictions for each view, in the same order.

    Raises:
        InputError: There are no views, or the images differ.
    """
    if not artifact:
        raise InputError(
            'predictions changed: the check names no views; add some, such as `under = ["corners"]`'
        )
    both = zip(artifact, original, strict=True)
    views = np.stack([changed(of_artifact, of_original) for of_artifact, of_original in both])
    counts = ""
    if len(views) > 1:
        counts = (
            f"{int(views.sum()):,} predictions of {views.shape[1]:,} images in {len(views)} views "
            "change"
        )
    return measured(
        POOLED_CHANGED,
        equivalence.mean(views.mean(axis=0)),
        detail=_detail(artifact[0], original[0], views[0], counts),
        failures=_most_confident(views, *artifact),
    )


def consensus_predictions_changed(
    artifact: Predictions, original: Predictions, among: np.ndarray
) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], on the consensus set.

    `among`, (N,) bool, are its images. Raises `NotApplicableError` without such images.
    """
    if not among.any():
        raise NotApplicableError(f"none of {len(among)} images is in the consensus set")
    return _changed_among(CONSENSUS_CHANGED, artifact, original, among)


def worst_class_predictions_changed(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the class with the largest share, in [0, 1].

    Classes are the original's predictions, so no labels are needed. A class with too few images to
    prove the tolerance can only prove a difference.
    """
    of_class = np.asarray(original.classes)[original.predicted]
    return _worst_changed(WORST_CLASS_CHANGED, artifact, original, of_class, tolerance)


def worst_group_predictions_changed(
    artifact: Predictions, original: Predictions, *, by: str | None, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the group with the largest share, in [0, 1].

    A group with too few images to prove the tolerance can only prove a difference.

    Args:
        artifact: The artifact's predictions.
        original: The original's predictions of the same images.
        by: The column of the data with the groups.
        tolerance: The largest share that is tolerated.

    Raises:
        NotApplicableError: No column is named.
        InputError: The data lack the column, or the images differ.
    """
    if by is None:
        raise NotApplicableError("no column of groups is named")
    groups = selection.column(original, by)
    return _worst_changed(WORST_GROUP_CHANGED, artifact, original, groups, tolerance)


def correct_predictions_lost(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of correct predictions that are lost, less those gained, in [-1, 1].

    Only predictions that differ from the original's count. The bounds are conservative, see
    `net_limits`. The failures are the lost ones, the most confident first.
    """
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    lost_count = int(lost.sum())
    gained_count = int(gained.sum())
    return measured(
        CORRECT_PREDICTIONS_LOST,
        equivalence.net_loss(lost_count, gained_count, len(lost)),
        detail=f"{lost_count:,} lost, {gained_count:,} gained",
        failures=_most_confident(lost[None], artifact),
    )


def worst_class_correct_predictions_lost(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the net loss of correct predictions in the true class with the largest loss.

    It is in [-1, 1]. A class with too few images to prove the tolerance can only prove a
    difference.
    """
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    counts = {}
    for number, name in enumerate(original.classes):
        of_class = original.labels == number
        n = int(of_class.sum())
        if n:
            counts[name] = (int(lost[of_class].sum()), int(gained[of_class].sum()), n)
    losses = {name: equivalence.net_loss(*of_class) for name, of_class in counts.items()}
    quantity, note = _worst(losses, tolerance)

    lost_count, gained_count, n = counts[quantity.group]
    return measured(
        WORST_CLASS_LOST,
        quantity,
        detail=f"{quantity.group}: {lost_count:,} lost, {gained_count:,} gained of {n:,}{note}",
        failures=_most_confident(lost[None], artifact),
    )


def confidence_moved(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the mean total variation between both probability vectors of an image, in [0, 1].

    Total variation is half the sum of absolute differences: the largest difference for any set of
    classes. The failures are all images, the largest variation first.
    """
    distances = total_variation(artifact, original)
    return measured(
        MOVED,
        equivalence.mean(distances),
        detail=f"at most {distances.max():.3f} for an image",
        failures=np.argsort(-distances, kind="stable"),
    )


def confidence_moved_p99(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the 99th percentile of the images' total variation, in [0, 1].

    The bounds are order statistics. The failures are as those of `confidence_moved`.
    """
    distances = total_variation(artifact, original)
    return measured(
        MOVED_P99,
        equivalence.quantile(distances, 0.99),
        detail=f"mean {distances.mean():.4f}, at most {distances.max():.3f} for an image",
        failures=np.argsort(-distances, kind="stable"),
    )


def calibration_error_change(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the artifact's expected calibration error less the original's, in [-1, 1].

    The bounds come from a bootstrap of each image's contribution to both errors, by the delta
    method.
    """
    selection.expect_same_images("artifact and original", artifact, original)
    of_artifact = signed_calibration_gaps(artifact)
    of_original = signed_calibration_gaps(original)
    return measured(
        CALIBRATION_CHANGE,
        equivalence.mean(of_artifact - of_original),
        detail=f"{of_artifact.mean():.3f}, the original's {of_original.mean():.3f}",
    )


def total_variation(artifact: Predictions, original: Predictions) -> np.ndarray:
    """Return the total variation between both probability vectors of each image, (N,) in [0, 1].

    It is half the sum of absolute differences. Raises `InputError` if the images differ.
    """
    selection.expect_same_images("artifact and original", artifact, original)
    differences = np.abs(artifact.probabilities.astype(np.float64) - original.probabilities)
    return np.asarray(np.clip(differences.sum(axis=1) / 2, 0, 1))


def measured(metric: Metric, quantity: equivalence.Quantity, **more: Any) -> Measurement:
    """Return a quantity as a measurement.

    Its 95% interval has the quantity's bounds within the metric's range. `more` are further fields
    of the measurement.
    """
    lower, upper = quantity.limits(_TWO_SIDED)
    interval = float(np.clip(lower, *metric.range)), float(np.clip(upper, *metric.range))
    value = quantity.value + 0.0  # Turns -0.0 into 0.0.
    return Measurement(metric, value, quantity.n, interval, quantity=quantity, **more)


def _changed_among(
    metric: Metric, artifact: Predictions, original: Predictions, among: np.ndarray
) -> Measurement:
    differ = changed(artifact, original) & among
    return measured(
        metric,
        equivalence.proportion(int(differ.sum()), int(among.sum())),
        detail=_detail(artifact, original, differ),
        failures=_most_confident(differ[None], artifact),
    )


def _detail(
    artifact: Predictions, original: Predictions, differ: np.ndarray, counted: str = ""
) -> str:
    """Say how many predictions change, after another order of the classes.

    `counted` is the sentence about their number; by default about those that `differ`.
    """
    parts = [class_order(artifact, original)]
    if counted:
        parts.append(counted)
    else:
        parts.append(f"{int(differ.sum()):,} predictions change")
        parts.append(top_change(artifact, original, differ))
    return "; ".join(filter(None, parts))


def _worst_changed(
    metric: Metric,
    artifact: Predictions,
    original: Predictions,
    groups: np.ndarray,
    tolerance: float | None,
) -> Measurement:
    differ = changed(artifact, original)
    names = groups.astype(str)
    counts = {}
    for name in np.unique(names).tolist():
        in_group = names == name
        counts[name] = (int(differ[in_group].sum()), int(in_group.sum()))
    shares = {name: equivalence.proportion(*of_group) for name, of_group in counts.items()}
    quantity, note = _worst(shares, tolerance)

    changes, n = counts[quantity.group]
    in_worst_group = differ & (names == quantity.group)
    return measured(
        metric,
        quantity,
        detail=f"{quantity.group}: {changes:,} of {n:,} change{note}",
        failures=_most_confident(in_worst_group[None], artifact),
    )


def _worst(
    parts: Mapping[str, equivalence.Quantity], tolerance: float | None
) -> tuple[equivalence.Quantity, str]:
    """Return the quantity of the worst part, and a note on parts that are too small."""
    least = 1
    if tolerance is not None:
        least = equivalence.least_images(tolerance)
    worst = equivalence.worst(parts, least=least)
    note = ""
    if worst.unproved:
        note = f"; {worst.unproved} of {len(parts)} have too few images to prove the tolerance"
    return worst, note


def _most_confident(views: np.ndarray, *artifact: Predictions) -> np.ndarray:
    """Return the positions of images that change in some view, the most confident changes first.

    `views`, (V, N) bool, has the changes in each view.
    """
    confidences = [
        np.where(changes, predictions.confidence_as_answered, -1)
        for predictions, changes in zip(artifact, views, strict=True)
    ]
    changes_somewhere = np.asarray(views.any(axis=0))
    return selection.ordered(changes_somewhere, -np.max(confidences, axis=0))
