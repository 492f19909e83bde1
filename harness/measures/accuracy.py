"""Accuracy, precision, recall, F1, confusions, confident errors, and changes from another model.

Negative flips are lost correct predictions of the incumbent, which users notice even at the same
accuracy.
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
    mean_score_of,
    one_in,
    share_of,
)
from harness.measures.selection import (
    commonest,
    confused,
    expect_same_images,
    likely_most_confident,
    members_of,
    most_confident,
    ordered,
)
from harness.measures.statistics import paired_p, related

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1 of a class, in [0, 1], or an average of theirs; None if undefined.

    Precision is undefined for a class that was never predicted, recall for one without images, and
    F1 for both.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class ClassificationReport:
    """Scores by class and their averages; `absent` and `never_predicted` name classes.

    `macro` gives all classes the same weight, `weighted` that of their number of images. Both
    ignore undefined scores.
    """

    n: int
    accuracy: float
    classes: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    absent: tuple[str, ...]
    never_predicted: tuple[str, ...]


def classification_report(predictions: Predictions) -> ClassificationReport:
    """Return precision, recall, F1 and support of every class, and their averages.

    They are defined as in scikit-learn.

    Raises:
        InputError: There are no images.
    """
    labels = predictions.labels
    if not len(labels):
        raise InputError("classification report: the data have no images")
    names = predictions.classes
    return ClassificationReport(
        n=len(labels),
        accuracy=float(predictions.correct.mean()),
        classes=_scores(predictions),
        macro=_average_scores(predictions, "macro"),
        weighted=_average_scores(predictions, "weighted"),
        absent=_names_without_images(names, labels),
        never_predicted=_names_without_images(names, predictions.predicted),
    )


def _scores(predictions: Predictions) -> tuple[Scores, ...]:
    """Return the scores of each class."""
    precision, recall, f1, support = _sklearn_scores(predictions, average=None)
    rows = zip(predictions.classes, precision, recall, f1, support, strict=True)
    return tuple(
        Scores(name, _defined(row[0]), _defined(row[1]), _defined(row[2]), int(row[3]))
        for name, *row in rows
    )


def _average_scores(predictions: Predictions, average: str) -> Scores:
    precision, recall, f1, _ = _sklearn_scores(predictions, average=average)
    return Scores(
        f"{average} average",
        _defined(precision),
        _defined(recall),
        _defined(f1),
        support=len(predictions.labels),
    )


def _sklearn_scores(predictions: Predictions, *, average: str | None) -> Any:
    from sklearn.metrics import precision_recall_fscore_support

    return precision_recall_fscore_support(
        predictions.labels,
        predictions.predicted,
        labels=range(len(predictions.classes)),
        average=average,
        zero_division=np.nan,  # Undefined scores are not perfect, nor zero.
    )


def _defined(score: float) -> float | None:
    if math.isnan(score):
        return None
    return float(score)


def _names_without_images(names: Sequence[str], class_numbers: np.ndarray) -> tuple[str, ...]:
    present = set(class_numbers.tolist())
    return tuple(name for number, name in enumerate(names) if number not in present)


def confusion_matrix(predictions: Predictions, among: np.ndarray | None = None) -> np.ndarray:
    """Return the number of images of each class (rows) that are predicted as each (columns).

    Args:
        predictions: Predictions for N images.
        among: The images to count, (N,) bool; all by default.

    Returns:
        The counts, (classes, classes) int64.
    """
    count = len(predictions.classes)
    pairs = predictions.labels * count + predictions.predicted
    if among is not None:
        pairs = pairs[among]
    counts = np.bincount(pairs, minlength=count * count)
    return np.asarray(counts.reshape(count, count))


def confused_pairs(predictions: Predictions, *, most: int = 3) -> list[tuple[str, str]]:
    """Return the pairs of classes that are confused most often, in either direction.

    They are at most `most` pairs, each confused at least once. Equally frequent pairs are in the
    order of their classes.
    """
    confusions = confusion_matrix(predictions)
    either_way = np.triu(confusions + confusions.T, k=1)
    most_frequent = np.argsort(-either_way, axis=None, kind="stable")[:most]

    classes = predictions.classes
    pairs = []
    for cell in most_frequent:
        if either_way.flat[cell] > 0:
            first, second = divmod(int(cell), len(classes))
            pairs.append((classes[first], classes[second]))
    return pairs


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
    """Return the share of correct predictions in [0, 1], of all images or of one true class.

    The accuracy of one class is its recall. The interval is Wilson's. For a predictor of scores, it
    is the mean score, with the interval of `score_interval`.

    Args:
        predictions: The predictions to measure.
        of_class: The true class; all images by default.
        clean: Predictions of the same images without a perturbation. The failures are then only
            those images that were correct there; without it, all wrong predictions.

    Raises:
        InputError: The data lack the class, or images of it.
    """
    chosen = members_of(predictions, of_class, "accuracy")
    return share_right(ACCURACY, predictions, chosen, clean=clean)


def share_right(
    metric: Metric,
    predictions: Predictions,
    chosen: np.ndarray,
    *,
    clean: Predictions | None = None,
) -> Measurement:
    """Return the share of correct predictions among `chosen` images, as `accuracy` does.

    `chosen`, (N,) bool, is not empty.
    """
    images = predictions.images
    if images.strata is not None:
        images = replace(images, strata=images.strata.among(chosen))
    if predictions.scored:
        return _mean_score(metric, predictions, chosen, images, clean=clean)

    wrong = chosen & ~predictions.correct
    failures = wrong
    clean_accuracy = None
    if clean is not None:
        failures = wrong & clean.correct
        clean_accuracy = mean_over(images, clean.correct[chosen])
    return share_of(
        metric,
        predictions.correct[chosen],
        detail=_top_confusion(predictions, wrong, chosen),
        failures=likely_most_confident(predictions, failures),
        rest=clean_accuracy,
        images=images,
    )


def _mean_score(
    metric: Metric,
    predictions: Predictions,
    chosen: np.ndarray,
    images: LabelledImages,
    *,
    clean: Predictions | None,
) -> Measurement:
    """Return the mean score of the `chosen` images, (N,) bool, whose strata `images` have.

    The failures are the images that lose most of their clean score or, without `clean`, those with
    the lowest scores.
    """
    scores = predictions.image_scores
    worst = ordered(chosen & (scores < 1), scores)
    clean_score = None
    if clean is not None:
        lost = clean.image_scores - scores
        worst = ordered(chosen & (lost > 0), -lost)
        clean_score = mean_over(images, clean.image_scores[chosen])
    return mean_score_of(
        metric,
        scores[chosen],
        detail=f"mean score; the lowest is {scores[chosen].min():.3f}",
        failures=worst,
        rest=clean_score,
        images=images,
    )


def pair_failures(predictions: Predictions, *, pair: tuple[str, str]) -> Measurement:
    """Return the number of images of either class of the pair that are predicted as the other.

    It is a number among all images. Raises `InputError` for two equal classes, and for a class that
    the data lack.
    """
    first, second = pair
    if first == second:
        raise InputError(
            f"pair failures: both classes of the pair are {first!r}; name two different classes"
        )
    for name in pair:
        members_of(predictions, name, "pair failures")
    forth = confused(predictions, first, second)
    back = confused(predictions, second, first)
    detail = f"{first}→{second} {forth.sum()}, {second}→{first} {back.sum()}"
    return _count(PAIR_FAILURES, predictions, forth | back, detail)


def confident_errors(predictions: Predictions, *, above: float) -> Measurement:
    """Return the number of wrong predictions with a confidence over `above`, in [0, 1]."""
    failures = predictions.confidence_of_errors() > above
    detail = _top_confusion(predictions, failures, np.ones_like(failures))
    return _count(CONFIDENT_ERRORS, predictions, failures, detail)


def accuracy_gain(predictions: Predictions, baseline: Predictions) -> Measurement:
    """Return the accuracy less that of the baseline on the same images, in [-1, 1].

    The interval is that of `Flips`. For predictors of scores, it is the mean difference of the
    scores. Raises `InputError` if the images differ.
    """
    if predictions.scored or baseline.scored:
        return _score_difference(ACCURACY_GAIN, predictions, baseline)
    changed = flips(predictions, baseline)
    return _difference(ACCURACY_GAIN, predictions, baseline, changed)


def accuracy_change(predictions: Predictions, incumbent: Predictions) -> Measurement:
    """Return the change of accuracy since the incumbent, in [-1, 1], with the changed images.

    The interval and the exact McNemar test are those of `Flips`. For predictors of scores, it is
    the mean difference of the scores with a paired t test. Raises `InputError` if the images
    differ.
    """
    if predictions.scored or incumbent.scored:
        measured = _score_difference(ACCURACY_CHANGE, predictions, incumbent)
        p_value = paired_p(predictions.image_scores - incumbent.image_scores)
        detail = f"{measured.detail} (paired t test p {related(p_value)})"
        return replace(measured, detail=detail, p_value=p_value)
    changed = flips(predictions, incumbent)
    measured = _difference(ACCURACY_CHANGE, predictions, incumbent, changed)
    detail = f"{measured.detail} (McNemar p {related(changed.p_value)})"
    if changed.by_pair:
        most_frequent, (lost, gained) = next(iter(changed.by_pair.items()))
        detail += f"; {most_frequent} {lost} lost, {gained} gained"
    return replace(measured, detail=detail, p_value=changed.p_value, flips=changed)


def _difference(
    metric: Metric, predictions: Predictions, other: Predictions, changed: Flips
) -> Measurement:
    lost = ~predictions.correct & other.correct
    described: Any = {
        "detail": f"{len(changed.gained)} images gained, {len(changed.lost)} lost",
        "failures": likely_most_confident(predictions, lost),
    }
    differences = predictions.correct.astype(np.int8) - other.correct
    if predictions.images.strata is not None:
        return mean_of(metric, differences, images=predictions.images, **described)
    return Measurement(
        metric, changed.net, changed.n, changed.interval, each=differences, **described
    )


def _score_difference(metric: Metric, predictions: Predictions, other: Predictions) -> Measurement:
    """Return the mean difference of two models' scores; raises as `accuracy_change` does.

    Also raises `NotApplicableError` if one of them predicts classes.
    """
    expect_same_images(metric.name, predictions, other)
    differences = predictions.image_scores - other.image_scores
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    return mean_of(
        metric,
        differences,
        ddof=1,
        detail=f"{higher} images with a higher score, {lower} with a lower one",
        failures=ordered(differences < 0, differences),
        images=predictions.images,
    )


def _count(
    metric: Metric, predictions: Predictions, failures: np.ndarray, detail: str
) -> Measurement:
    return count_of(
        metric,
        int(failures.sum()),
        len(failures),
        detail=detail,
        failures=likely_most_confident(predictions, failures),
        each=failures,
        images=predictions.images,
    )


def _top_confusion(predictions: Predictions, failures: np.ndarray, measured: np.ndarray) -> str:
    """Say which confusion is the most frequent among the failures; empty without failures."""
    if not failures.any():
        return ""
    names = predictions.classes
    counts = confusion_matrix(predictions, failures)
    true, predicted = divmod(int(counts.argmax()), len(names))
    of_true_class = int((measured & (predictions.labels == true)).sum())
    share = counts[true, predicted] / of_true_class
    return f"top confusion {names[true]}→{names[predicted]} {share:.0%} of {of_true_class:,}"


def negative_flips(
    predictions: Predictions,
    before: np.ndarray,
    *,
    of_class: str | None = None,
    among: np.ndarray | None = None,
    correction: float = 1.0,
) -> Measurement:
    """Return the number of negative flips: images that the incumbent alone predicts correctly.

    Yan et al. 2021, "Positive-Congruent Training", section 3, divide it by the number of images.
    The failures are the most confident first.

    Args:
        predictions: The candidate's predictions for N images.
        before: The correct predictions of the incumbent, (N,) bool.
        of_class: The only class whose images count.
        among: The only images that count, (N,) bool, although the rate is among all.
        correction: Factor of the number, see `PairedIncumbent`.

    Raises:
        NotApplicableError: There is no image to count.
    """
    of_interest = selection.of_class(predictions, of_class)
    n = int(of_interest.sum())
    if not n:
        raise NotApplicableError(
            f"negative flips: none of {len(of_interest)} images is of class {of_class!r}"
        )
    if among is not None:
        of_interest = of_interest & among
    lost = of_interest & before & ~predictions.correct
    gained = of_interest & ~before & predictions.correct

    detail = f"{int(gained.sum())} gained in return"
    top_flip = commonest(predictions.labels, predictions.predicted, lost)
    if top_flip is not None:
        (true, taken), times = top_flip
        detail += f"; most often {predictions.classes[true]}→{predictions.classes[taken]}, {times}"

    count: float = int(lost.sum())
    if correction != 1:
        count *= correction
    return count_of(
        NEGATIVE_FLIPS, count, n, detail=detail, failures=most_confident(predictions, lost)
    )
