"""Distance of an artifact from its original on the same images: changed predictions and confidences.

An artifact is an export, a quantized or a compiled copy. Each measurement has a quantity with exact bounds, see
`harness.measures.equivalence`. Most need no labels.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures.confidence import signed_calibration_gaps
from harness.measures.equivalence import Mean, NetLoss, Proportion, Quantile, Worst, least_images
from harness.measures.metric import Measurement, Metric, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference import Predictions
    from harness.measures.equivalence import Quantity


def _metric(name: str, words: str, unit: Unit = Unit.SHARE) -> Metric:
    return Metric(name, unit, better="less", words=words)


_DIFFER = "that differ from the original's"
PREDICTIONS_CHANGED = _metric("predictions_changed", f"predictions {_DIFFER}")
POOLED_PREDICTIONS_CHANGED = _metric("pooled_predictions_changed", f"predictions {_DIFFER}, pooled over views")
CONSENSUS_PREDICTIONS_CHANGED = _metric("consensus_predictions_changed", f"predictions {_DIFFER} on the consensus set")
WORST_CLASS_PREDICTIONS_CHANGED = _metric("worst_class_predictions_changed", f"predictions of one class {_DIFFER}")
WORST_GROUP_PREDICTIONS_CHANGED = _metric(
    "worst_group_predictions_changed", f"predictions of one group of images {_DIFFER}"
)
_LOST = "that are lost, less those gained"
CORRECT_PREDICTIONS_LOST = _metric(
    "correct_predictions_lost", f"correct predictions of the original {_LOST}", Unit.DIFFERENCE
)
WORST_CLASS_CORRECT_PREDICTIONS_LOST = _metric(
    "worst_class_correct_predictions_lost", f"correct predictions of one class {_LOST}", Unit.DIFFERENCE
)
CONFIDENCE_MOVED = _metric("confidence_moved", "mean total variation between artifact and original")
CONFIDENCE_MOVED_P99 = _metric(
    "confidence_moved_p99", "99th percentile of the total variation between artifact and original"
)
CALIBRATION_ERROR_CHANGE = _metric(
    "calibration_error_change", "rise of the expected calibration error", Unit.DIFFERENCE
)
OF_ORIGINAL = frozenset(
    metric.name
    for metric in (
        *(PREDICTIONS_CHANGED, POOLED_PREDICTIONS_CHANGED, CONSENSUS_PREDICTIONS_CHANGED),
        *(WORST_CLASS_PREDICTIONS_CHANGED, WORST_GROUP_PREDICTIONS_CHANGED),
        *(CORRECT_PREDICTIONS_LOST, WORST_CLASS_CORRECT_PREDICTIONS_LOST),
        *(CONFIDENCE_MOVED, CONFIDENCE_MOVED_P99, CALIBRATION_ERROR_CHANGE),
    )
)
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
    _expect_same_images(artifact, original)
    differ = np.asarray(artifact.predicted != original.predicted)
    if len(at := np.flatnonzero(differ)):
        logits = original.exactly(at).astype(np.float64)
        rows = np.arange(len(at))
        first, other = logits[rows, original.predicted[at]], logits[rows, artifact.predicted[at]]
        apart, size = np.abs(first - other), np.maximum(np.abs(first), np.abs(other))
        differ[at[np.isfinite(size) & (apart <= NOISE * size)]] = False
    return differ


def class_order(artifact: Predictions, original: Predictions) -> tuple[int, ...] | None:
    """Return the artifact's position of each class of the original; None for the same order.

    Classes have changed positions if most images of each are predicted as another one, and no two as the same.
    """
    return class_places(artifact.predicted, original.predicted, classes=len(original.classes))


def class_places(
    artifact: np.ndarray, original: np.ndarray, *, classes: int, mostly: float = _MOSTLY
) -> tuple[int, ...] | None:
    """Return what `class_order` does, of predicted classes, (N,) each; `mostly` is the share that counts as most."""
    from scipy.optimize import linear_sum_assignment

    table = np.bincount(original * classes + artifact, minlength=classes**2).reshape(classes, classes)
    places = tuple(int(place) for place in linear_sum_assignment(-table)[1])
    moved = [number for number, place in enumerate(places) if place != number and table[number].any()]
    clear = all(table[number, places[number]] >= mostly * table[number].sum() for number in moved)
    return places if moved and clear and sorted(moved) == sorted(places[number] for number in moved) else None


def order_in_words(places: Sequence[int], classes: Sequence[str], *, who: str = "the artifact") -> str:
    """Say which classes have changed places, of `who`."""
    moved = [f"{classes[at]} is predicted as {classes[to]}" for at, to in enumerate(places) if at != to]
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""  # noqa: PLR2004  Three fit into a sentence.
    return f"{who} has its classes in another order: {', '.join(moved[:3])}{more}"


def top_change(artifact: Predictions, original: Predictions, differ: np.ndarray) -> str:
    """Return the most frequent change among the images that `differ`, (N,) bool, such as `Shirt → Coat`; "" for none.

    Among equally frequent changes, the first counts.
    """
    pairs = Counter(zip(original.predicted[differ].tolist(), artifact.predicted[differ].tolist(), strict=True))
    if not pairs:
        return ""
    (before, now), _ = pairs.most_common(1)[0]
    return f"{original.classes[before]} → {original.classes[now]}"


def lost_and_gained(artifact: Predictions, original: Predictions, differ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which predictions that `differ` are no longer correct, and which are now correct; each (N,) bool."""
    return differ & original.correct & ~artifact.correct, differ & artifact.correct & ~original.correct


def predictions_changed(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of predictions that differ from the original's, in [0, 1], with exact bounds.

    The failures are the changes, the most confident first.
    """
    return _changed_among(PREDICTIONS_CHANGED, artifact, original, np.ones(len(artifact.predicted), bool))


def pooled_predictions_changed(artifact: Sequence[Predictions], original: Sequence[Predictions]) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], over several views of the same images.

    The bounds come from a bootstrap over images, since the views of an image change together. The failures are images
    that change in some view, the most confident first.
    """
    if not artifact:
        raise InputError('predictions changed: the check names no views; add some, such as `under = ["corners"]`')
    views = np.stack([changed(mine, theirs) for mine, theirs in zip(artifact, original, strict=True)])
    return _of_views(POOLED_PREDICTIONS_CHANGED, Mean(views.mean(axis=0)), artifact, original, views)


def consensus_predictions_changed(artifact: Predictions, original: Predictions, among: np.ndarray) -> Measurement:
    """Return the share of predictions that differ, in [0, 1], for the images `among` the consensus set, (N,) bool."""
    if not among.any():
        raise NotApplicableError(f"none of {len(among)} images is in the consensus set")
    return _changed_among(CONSENSUS_PREDICTIONS_CHANGED, artifact, original, among)


def worst_class_predictions_changed(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the class with the largest share, in [0, 1].

    Classes are the original's predictions, so no labels are needed. A class with too few images to prove the tolerance
    can only prove a difference.
    """
    of_class = np.asarray(original.classes)[original.predicted]
    return _worst(WORST_CLASS_PREDICTIONS_CHANGED, artifact, original, of_class, tolerance)


def worst_group_predictions_changed(
    artifact: Predictions, original: Predictions, *, by: str | None, tolerance: float | None = None
) -> Measurement:
    """Return the share of predictions that differ in the group with the largest share; `by` is a column of the data.

    Raises `NotApplicableError` without a column, and `InputError` for a column that the data lack.
    """
    groups = original.images.groups
    if by is None:
        raise NotApplicableError("no column of groups is named")
    if by not in groups:
        raise InputError(f"groups by {by!r}: the data have {', '.join(groups) or 'no groups'}; name one of these")
    return _worst(WORST_GROUP_PREDICTIONS_CHANGED, artifact, original, groups[by], tolerance)


def correct_predictions_lost(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the share of correct predictions of the original that are lost, less those gained, in [-1, 1].

    The bounds are conservative, see `net_limits`. The failures are the lost ones, the most confident first.
    """
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    return _measured(
        CORRECT_PREDICTIONS_LOST,
        NetLoss(int(lost.sum()), int(gained.sum()), len(lost)),
        f"{int(lost.sum()):,} lost, {int(gained.sum()):,} gained",
        failures=_most_confident([artifact], lost[None]),
    )


def worst_class_correct_predictions_lost(
    artifact: Predictions, original: Predictions, *, tolerance: float | None = None
) -> Measurement:
    """Return the net loss of correct predictions in the true class with the largest loss, in [-1, 1]."""
    lost, gained = lost_and_gained(artifact, original, changed(artifact, original))
    labels = original.labels
    own = {original.classes[label]: labels == label for label in np.unique(labels)}
    parts = {name: NetLoss(int(lost[at].sum()), int(gained[at].sum()), int(at.sum())) for name, at in own.items()}
    worst = Worst(dict(parts), least=_least(tolerance))
    part = parts[worst.name]
    detail = f"{worst.name}: {part.lost:,} lost, {part.gained:,} gained of {part.n:,}"
    return _measured(
        WORST_CLASS_CORRECT_PREDICTIONS_LOST, worst, detail, failures=_most_confident([artifact], lost[None])
    )


def confidence_moved(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the mean total variation between both probability vectors of an image, in [0, 1].

    Total variation is half the sum of absolute differences: the largest difference for any set of classes.
    """
    each = total_variation(artifact, original)
    detail = f"at most {each.max():.3f} for an image"
    return _measured(CONFIDENCE_MOVED, Mean(each), detail, failures=np.argsort(-each, kind="stable"))


def confidence_moved_p99(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the 99th percentile of the images' total variation, in [0, 1]; bounds are order statistics."""
    each = total_variation(artifact, original)
    detail = f"mean {each.mean():.4f}, at most {each.max():.3f} for an image"
    return _measured(CONFIDENCE_MOVED_P99, Quantile(each, 0.99), detail, failures=np.argsort(-each, kind="stable"))


def calibration_error_change(artifact: Predictions, original: Predictions) -> Measurement:
    """Return the artifact's expected calibration error less the original's, in [-1, 1].

    The bounds come from a bootstrap of each image's contribution to both errors, by the delta method.
    """
    _expect_same_images(artifact, original)
    mine, theirs = (signed_calibration_gaps(predictions) for predictions in (artifact, original))
    detail = f"{mine.mean():.3f}, the original's {theirs.mean():.3f}"
    return _measured(CALIBRATION_ERROR_CHANGE, Mean(mine - theirs), detail)


def total_variation(artifact: Predictions, original: Predictions) -> np.ndarray:
    """Return half the sum of absolute differences of the probabilities of each image, (N,) in [0, 1]."""
    _expect_same_images(artifact, original)
    apart = np.abs(artifact.probabilities.astype(np.float64) - original.probabilities)
    return np.asarray(np.clip(apart.sum(axis=1) / 2, 0, 1))


def _expect_same_images(artifact: Predictions, original: Predictions) -> None:
    if artifact.images.sha256 != original.images.sha256:
        raise InputError(
            f"artifact and original were measured on {len(artifact.labels)} and {len(original.labels)} images that are "
            "not the same; use the same images for both"
        )


def _measured(metric: Metric, quantity: Quantity, detail: str, *, failures: np.ndarray | None = None) -> Measurement:
    low, high = (float(np.clip(limit, *metric.range)) for limit in quantity.limits(_TWO_SIDED))
    shown = np.empty(0, dtype=np.int64) if failures is None else failures
    return Measurement(
        metric, quantity.value + 0.0, quantity.n, (low, high), detail=detail, failures=shown, quantity=quantity
    )


def _changed_among(metric: Metric, artifact: Predictions, original: Predictions, among: np.ndarray) -> Measurement:
    differ = changed(artifact, original) & among
    quantity = Proportion(int(differ.sum()), int(among.sum()))
    return _of_views(metric, quantity, [artifact], [original], differ[None])


def _of_views(
    metric: Metric,
    quantity: Quantity,
    artifact: Sequence[Predictions],
    original: Sequence[Predictions],
    views: np.ndarray,
) -> Measurement:
    """Return the measurement of changes in `views`, (V, N) bool; its text begins with another order of the classes."""
    order = class_order(artifact[0], original[0])
    said = [] if order is None else [order_in_words(order, original[0].classes)]
    of = "predictions" if len(views) == 1 else f"predictions of {views.shape[1]:,} images in {len(views)} views"
    said.append(f"{int(views.sum()):,} {of} change")
    if len(views) == 1 and (most := top_change(artifact[0], original[0], views[0])):
        said.append(f"most often {most}")
    return _measured(metric, quantity, "; ".join(said), failures=_most_confident(artifact, views))


def _worst(
    metric: Metric, artifact: Predictions, original: Predictions, groups: np.ndarray, tolerance: float | None
) -> Measurement:
    differ = changed(artifact, original)
    own = {str(name): groups == name for name in np.unique(groups)}
    parts = {name: Proportion(int(differ[at].sum()), int(at.sum())) for name, at in own.items()}
    worst = Worst(dict(parts), least=_least(tolerance))
    part = parts[worst.name]
    detail = f"{worst.name}: {part.count:,} of {part.n:,} change"
    if small := len(parts) - len(worst.proved):
        detail += f"; {small} of {len(parts)} have too few images to prove the tolerance"
    return _measured(metric, worst, detail, failures=_most_confident([artifact], (differ & own[worst.name])[None]))


def _least(tolerance: float | None) -> int:
    return 1 if tolerance is None else least_images(tolerance)


def _most_confident(artifact: Sequence[Predictions], views: np.ndarray) -> np.ndarray:
    """Return the positions of images that change in some view, the most confident changes first."""
    sure = np.max(
        [np.where(view, mine.confidence_as_answered, -1) for mine, view in zip(artifact, views, strict=True)], axis=0
    )
    positions = np.flatnonzero(views.any(axis=0))
    return np.asarray(positions[np.argsort(-sure[positions], kind="stable")])
