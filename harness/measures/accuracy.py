"""Accuracy, precision, recall, F1, confusion matrices and pairs, confident errors, and changes from another model.

Negative flips are lost correct predictions of the incumbent, which users notice even at the same accuracy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures import selection
from harness.measures.flips import Flips, flips
from harness.measures.metric import (
    Measurement,
    Metric,
    Unit,
    count_of,
    mean_of,
    mean_over,
    one_in,
    share_of,
)
from harness.measures.selection import (
    commonest,
    confused,
    likely_most_confident,
    members_of,
    most_confident,
)
from harness.measures.statistics import related

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference import Predictions


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 of a class, in [0, 1], or an average of theirs; None if undefined.

    Precision is undefined for a class that was never predicted, recall for one without images, F1 for both.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class ClassificationReport:
    """Scores by class and their averages; `absent` and `never_predicted` name classes.

    `macro` gives all classes the same weight, `weighted` that of their number of images; both ignore undefined scores.
    """

    n: int
    accuracy: float
    classes: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    absent: tuple[str, ...]
    never_predicted: tuple[str, ...]


def classification_report(predictions: Predictions) -> ClassificationReport:
    """Return precision, recall, F1 and support of every class and their averages, as scikit-learn defines them."""
    from sklearn.metrics import precision_recall_fscore_support

    labels, predicted, names = predictions.labels, predictions.predicted, predictions.classes
    if not len(labels):
        raise InputError("classification report: the data have no images")

    def scores(average: str | None, rows: Sequence[str]) -> tuple[Scores, ...]:
        found: Any = precision_recall_fscore_support(
            labels, predicted, labels=range(len(names)), average=average, zero_division=np.nan
        )
        support = [len(labels)] if average else found[3].astype(int).tolist()
        columns = (
            [None if math.isnan(one) else float(one) for one in np.atleast_1d(each)]
            for each in found[:3]
        )
        return tuple(Scores(*row) for row in zip(rows, *columns, support, strict=True))

    absent, unpredicted = (
        tuple(name for label, name in enumerate(names) if not (which == label).any())
        for which in (labels, predicted)
    )
    (macro,), (weighted,) = (scores(name, [f"{name} average"]) for name in ("macro", "weighted"))
    share = float(predictions.correct.mean())
    return ClassificationReport(
        len(labels), share, scores(None, names), macro, weighted, absent, unpredicted
    )


def confusion_matrix(predictions: Predictions, among: np.ndarray | None = None) -> np.ndarray:
    """Return the number of images of each class (rows) predicted as each (columns), (classes, classes) int64.

    It counts all images, or those `among` them, (N,) bool.
    """
    count = len(predictions.classes)
    pairs = predictions.labels * count + predictions.predicted
    counts = np.bincount(pairs if among is None else pairs[among], minlength=count * count)
    return np.asarray(counts.reshape(count, count))


def confused_pairs(predictions: Predictions, *, most: int = 3) -> list[tuple[str, str]]:
    """Return the pairs of classes that are confused most often, in either direction, at least once.

    Equally frequent pairs are in the order of their classes.
    """
    confusions, classes = confusion_matrix(predictions), predictions.classes
    either_way = np.triu(confusions + confusions.T, k=1)
    order = np.argsort(-either_way, axis=None, kind="stable")[:most]
    numbers = [divmod(int(at), len(classes)) for at in order if either_way.flat[at] > 0]
    return [(classes[first], classes[second]) for first, second in numbers]


ACCURACY = Metric(
    "accuracy",
    Unit.SHARE,
    better="more",
    weighted=True,
    about="share of correct predictions",
    at_chance=one_in,
)
PAIR_FAILURES = Metric(
    "pair_failures",
    Unit.IMAGES,
    better="less",
    weighted=True,
    about="images of either class of a pair that are predicted as the other",
)
CONFIDENT_ERRORS = Metric(
    "confident_errors",
    Unit.IMAGES,
    better="less",
    weighted=True,
    about="wrong predictions with a confidence above that of the check",
)
ACCURACY_GAIN = Metric(
    "accuracy_gain",
    Unit.DIFFERENCE,
    better="more",
    weighted=True,
    about="accuracy less that of the baseline on the same images",
)
ACCURACY_CHANGE = Metric(
    "accuracy_change",
    Unit.DIFFERENCE,
    better="more",
    about="change of accuracy since the incumbent on the same images",
)
GOLDEN_RIGHT = Metric(
    "golden_right",
    Unit.SHARE,
    better="more",
    words="correct on this one image",
    about="whether one golden image is predicted correctly",
)
NEGATIVE_FLIPS = Metric(
    "negative_flips",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="lost correct predictions of the incumbent",
    about="images that the incumbent predicts correctly and the candidate does not",
)


def accuracy(
    predictions: Predictions, *, of_class: str | None = None, clean: Predictions | None = None
) -> Measurement:
    """Return the share of correct predictions in [0, 1], of all images or of one true class (its recall).

    The failures are wrong predictions. With `clean`, the predictions of the same images without a perturbation, only
    those that were correct there. Raises `InputError` for a class that the data lack.
    """
    return share_right(
        ACCURACY, predictions, members_of(predictions, of_class, "accuracy"), clean=clean
    )


def share_right(
    metric: Metric,
    predictions: Predictions,
    chosen: np.ndarray,
    *,
    clean: Predictions | None = None,
) -> Measurement:
    """Return the share of correct predictions among `chosen` images, (N,) bool and not empty, as `accuracy` does."""
    wrong, images = chosen & ~predictions.correct, predictions.images
    if images.strata is not None:
        images = replace(images, strata=images.strata.among(chosen))
    return share_of(
        metric,
        predictions.correct[chosen],
        detail=_top_confusion(predictions, wrong, chosen),
        failures=likely_most_confident(predictions, wrong & clean.correct if clean else wrong),
        rest=mean_over(images, clean.correct[chosen]) if clean else None,
        images=images,
    )


def pair_failures(predictions: Predictions, *, pair: tuple[str, str]) -> Measurement:
    """Return the number of images of either class of the pair that are predicted as the other, among all images."""
    if pair[0] == pair[1]:
        raise InputError(
            f"pair failures: both classes of the pair are {pair[0]!r}; name two different classes"
        )
    for name in pair:
        members_of(predictions, name, "pair failures")
    forth, back = confused(predictions, *pair), confused(predictions, *pair[::-1])
    detail = f"{pair[0]}→{pair[1]} {forth.sum()}, {pair[1]}→{pair[0]} {back.sum()}"
    return _count(PAIR_FAILURES, predictions, forth | back, detail)


def confident_errors(predictions: Predictions, *, above: float) -> Measurement:
    """Return the number of wrong predictions with a confidence over `above`, in [0, 1]."""
    failures = predictions.confidence_of_errors() > above
    detail = _top_confusion(predictions, failures, np.ones_like(failures))
    return _count(CONFIDENT_ERRORS, predictions, failures, detail)


def accuracy_gain(predictions: Predictions, baseline: Predictions) -> Measurement:
    """Return the accuracy minus that of the baseline on the same images, in [-1, 1], with the interval of `Flips`."""
    return _difference(ACCURACY_GAIN, predictions, baseline, flips(predictions, baseline))


def accuracy_change(predictions: Predictions, incumbent: Predictions) -> Measurement:
    """Return the change of accuracy since the incumbent, in [-1, 1], with the changed images and McNemar's p.

    The interval and the exact test are those of `Flips`. Raises `InputError` if the images differ.
    """
    changed = flips(predictions, incumbent)
    measured = _difference(ACCURACY_CHANGE, predictions, incumbent, changed)
    pairs = [
        f"{name} {lost} lost, {gained} gained"
        for name, (lost, gained) in list(changed.by_pair.items())[:1]
    ]
    detail = "; ".join([f"{measured.detail} (McNemar p {related(changed.p_value)})", *pairs])
    return replace(measured, detail=detail, p_value=changed.p_value, flips=changed)


def _difference(
    metric: Metric, predictions: Predictions, other: Predictions, changed: Flips
) -> Measurement:
    more: Any = {
        "detail": f"{len(changed.gained)} images gained, {len(changed.lost)} lost",
        "failures": likely_most_confident(predictions, ~predictions.correct & other.correct),
    }
    each = predictions.correct.astype(np.int8) - other.correct
    if predictions.images.strata is not None:
        return mean_of(metric, each, images=predictions.images, **more)
    return Measurement(metric, changed.net, changed.n, changed.interval, each=each, **more)


def _count(
    metric: Metric, predictions: Predictions, failures: np.ndarray, detail: str
) -> Measurement:
    shown = likely_most_confident(predictions, failures)
    more: Any = {"failures": shown, "each": failures, "images": predictions.images}
    return count_of(metric, int(failures.sum()), len(failures), detail=detail, **more)


def _top_confusion(predictions: Predictions, failures: np.ndarray, measured: np.ndarray) -> str:
    if not failures.any():
        return ""
    counts, names = confusion_matrix(predictions, failures), predictions.classes
    true, taken = divmod(int(counts.argmax()), len(names))
    n = int((measured & (predictions.labels == true)).sum())
    return f"top confusion {names[true]}→{names[taken]} {counts[true, taken] / n:.0%} of {n:,}"


def golden_right(predictions: Predictions, image: int, *, because: str = "") -> Measurement:
    """Return 1 if the image at this position is predicted correctly, else 0; `because` is the reason for the check."""
    if not 0 <= image < len(predictions.labels):
        raise InputError(
            f"golden image {image}: expected a position among {len(predictions.labels)} images"
        )
    at = np.array([image])
    right = bool(predictions.correct[image])
    taken, label = (
        predictions.classes[int(each[image])]
        for each in (predictions.predicted, predictions.labels)
    )
    answer = f"{label}, {'as it should be' if right else f'predicted as {taken}'}"
    if predictions.has_confidence:
        answer += f" ({float(predictions.probabilities_at(at).max()):.0%} confidence)"
    detail = "; ".join(filter(None, (answer, because)))
    return share_of(
        GOLDEN_RIGHT,
        predictions.correct[at],
        detail=detail,
        failures=at[: int(not right)],
        each=None,
    )


def negative_flips(
    predictions: Predictions,
    before: np.ndarray,
    *,
    of_class: str | None = None,
    among: np.ndarray | None = None,
    correction: float = 1.0,
) -> Measurement:
    """Return the number of negative flips: images with a correct prediction of the incumbent and a wrong one now.

    Yan et al. 2021, "Positive-Congruent Training", section 3, divide it by the number of images. `before` marks the
    correct predictions of the incumbent, (N,) bool. `of_class` counts images of one class only, and `among` only these,
    (N,) bool, though the rate is among all. The number is multiplied by a `correction`, see `PairedIncumbent`. The
    failures are the most confident first. Raises `NotApplicableError` without an image to count.
    """
    looked_at = selection.of_class(predictions, of_class)
    if not (n := int(looked_at.sum())):
        raise NotApplicableError(
            f"negative flips: none of {len(looked_at)} images is of class {of_class!r}"
        )
    if among is not None:
        looked_at = looked_at & among
    lost, gained = (
        looked_at & before & ~predictions.correct,
        looked_at & ~before & predictions.correct,
    )
    count, detail = int(lost.sum()), f"{int(gained.sum())} gained in return"
    if top := commonest(predictions.labels, predictions.predicted, lost):
        (true, taken), most = top
        detail += f"; most often {predictions.classes[true]}→{predictions.classes[taken]}, {most}"
    corrected = count if correction == 1 else count * correction
    return count_of(
        NEGATIVE_FLIPS, corrected, n, detail=detail, failures=most_confident(predictions, lost)
    )
