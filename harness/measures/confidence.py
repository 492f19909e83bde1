"""Confidence: calibration, proper scores, selective prediction, and behavior under corruptions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures.metric import Curve, Measurement, Metric, Unit, contributions, mean_of
from harness.measures.selection import expect_same_images, ordered
from harness.measures.statistics import Z95, proportion_interval
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.inference import Predictions

BINS = 15
"""Number of bins of confidence, of equal width, as in Guo et al. (2017)."""
RELIABILITY = "reliability"
"""Name of the reliability diagram's curve."""

CALIBRATION_ERROR = Metric(
    "calibration_error",
    Unit.SHARE,
    better="less",
    words="expected calibration error",
    about=(
        "mean distance of confidence and accuracy over bins of confidence "
        "(expected calibration error)"
    ),
)
NEGATIVE_LOG_LIKELIHOOD = Metric(
    "negative_log_likelihood",
    Unit.SCORE,
    better="less",
    words="negative log-likelihood",
    weighted=True,
    about="mean negative logarithm of the label's probability (log loss)",
    at_chance=math.log,
)
BRIER_SCORE = Metric(
    "brier_score",
    Unit.SCORE,
    better="less",
    words="Brier score",
    range=(0.0, 2.0),
    weighted=True,
    about="mean squared distance of the probabilities from the label (Brier score)",
    at_chance=lambda classes: 1 - 1 / classes,
)
CONFIDENCE_ON_ERRORS = Metric(
    "confidence_on_errors", Unit.SHARE, better="less", words="mean confidence of errors"
)
RISK_COVERAGE_AREA = Metric(
    "risk_coverage_area",
    Unit.SHARE,
    better="less",
    words="area under the risk-coverage curve",
    about=(
        "mean error rate of the most confident predictions, over all shares of them "
        "(risk-coverage curve)"
    ),
)
CONFIDENCE_RISE = Metric(
    "confidence_rise",
    Unit.DIFFERENCE,
    better="less",
    words="rise of the mean confidence as severity grows",
)
MEAN_CORRUPTION_ERROR = Metric(
    "mean_corruption_error",
    Unit.FACTOR,
    better="less",
    words="mean corruption error against the baseline",
    about="errors under corruptions relative to those of the baseline, averaged over corruptions",
)


def largest_if_certain(metric: str, errors: float, n: int) -> float | None:
    """Return the largest value of a metric for a model that is certain of each prediction.

    None for a metric without such a largest value, for example the log loss.

    Args:
        metric: The name of the metric.
        errors: The model's share of errors, in [0, 1].
        n: The number of images.
    """
    # Where confidence is 1, the gap of the only bin is the share of errors (Guo et al. 2017,
    # equation 3).
    if metric == CALIBRATION_ERROR.name:
        return errors
    # An error misses 1 for the label and 1 for the predicted class.
    if metric == BRIER_SCORE.name:
        return 2 * errors
    if metric == "confident_errors":
        return errors * n
    return None


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each confidence among `bins` of equal width, (N,) int64 from 0.

    An edge is in the bin above.
    """
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.asarray(np.digitize(confidence, inner_edges))


def calibration_error(predictions: Predictions, *, bins: int = BINS) -> Measurement:
    """Return the expected calibration error in [0, 1].

    It is `|accuracy - confidence|` of the bins, weighted by their counts: Guo et al. (2017), "On
    Calibration of Modern Neural Networks", equation 3. The interval is normal, by the delta method.
    The curve is the reliability diagram of clean images.
    """
    # The error is the mean of (correct - confidence) with the sign of its bin, which the delta
    # method takes as known.
    gaps = signed_calibration_gaps(predictions, bins=bins)
    accuracy = predictions.correct.mean()
    mean_confidence = _confidence(predictions).mean()
    detail = f"accuracy {accuracy:.1%}, mean confidence {mean_confidence:.1%}; {bins} bins"
    curve = None
    if predictions.perturbation == IDENTITY:
        curve = reliability(predictions)
    return mean_of(CALIBRATION_ERROR, gaps, detail=detail, curve=curve)


def reliability(predictions: Predictions) -> Curve:
    """Return accuracy against mean confidence, both in [0, 1], in `BINS` bins of confidence.

    The curve has the counts of the bins. An empty bin has None.
    """
    confidence = predictions.confidence
    correct = predictions.correct
    bins = bin_of(confidence)

    mean_confidences: list[float | None] = []
    accuracies: list[float | None] = []
    counts = []
    for number in range(BINS):
        inside = np.flatnonzero(bins == number)
        counts.append(len(inside))
        if len(inside):
            mean_confidences.append(float(confidence[inside].mean()))
            accuracies.append(float(correct[inside].mean()))
        else:
            mean_confidences.append(None)
            accuracies.append(None)
    return Curve(
        RELIABILITY, at=tuple(mean_confidences), values=tuple(accuracies), counts=tuple(counts)
    )


def signed_calibration_gaps(predictions: Predictions, *, bins: int = BINS) -> np.ndarray:
    """Return the contribution of each image to the expected calibration error, (N,).

    Their mean is the error.
    """
    if bins < 1:
        raise InputError(f"calibration error: {bins} bins, expected at least 1")
    confidence = _confidence(predictions)
    bin_numbers = bin_of(confidence, bins)
    gaps = predictions.correct - confidence
    signs = np.sign(np.bincount(bin_numbers, gaps, minlength=bins))
    return np.asarray(signs[bin_numbers] * gaps)


def negative_log_likelihood(predictions: Predictions) -> Measurement:
    """Return the mean of -log p(true class), in nats (log loss).

    It is 0 for confident correct predictions and log(classes) for a guess. Good (1952), "Rational
    Decisions".
    """
    log_probabilities = predictions.log_probabilities
    images = np.arange(len(log_probabilities))
    losses = -log_probabilities[images, predictions.labels]
    return mean_of(NEGATIVE_LOG_LIKELIHOOD, losses, images=predictions.images)


def brier_score(predictions: Predictions) -> Measurement:
    """Return the mean squared distance of the probabilities from the truth, in [0, 2].

    The distance is over all classes: Brier (1950), "Verification of Forecasts Expressed in Terms of
    Probability", equation 2.
    """
    probabilities = _softmax(predictions.logits)
    truth = np.eye(len(predictions.classes))[predictions.labels]
    distances = np.square(probabilities - truth).sum(axis=1)
    return mean_of(BRIER_SCORE, distances, images=predictions.images)


def confidence_on_errors(predictions: Predictions) -> Measurement:
    """Return the mean confidence of wrong predictions, in [0, 1]; `n` is the number of all images.

    The interval is normal, over the errors. The failures are the errors, the most confident first.

    Raises:
        NotApplicableError: There are no errors.
    """
    n = len(predictions.labels)
    errors = np.flatnonzero(~predictions.correct)
    if not len(errors):
        raise NotApplicableError(f"confidence on errors: all of {n} predictions are correct")
    confidences = _confidence(predictions)[errors]
    most_confident_first = np.argsort(-confidences, kind="stable")
    return mean_of(
        CONFIDENCE_ON_ERRORS,
        confidences,
        n=n,
        detail=f"over {len(errors)} errors",
        failures=errors[most_confident_first],
        each=contributions(confidences, errors, n),
        counted=len(errors),
    )


def risk_coverage(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of a model that may abstain: coverage and risk, both (N,) in [0, 1].

    Coverage is the share of the most confident predictions, from 1 / N to 1. Risk is the share of
    errors among them: Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural
    Networks", section 2.
    """
    # Predictions of equal confidence have no order, so each counts as their mean.
    _, group_of, counts = np.unique(
        -_confidence(predictions), return_inverse=True, return_counts=True
    )
    error_rates = np.bincount(group_of, ~predictions.correct) / counts
    errors = np.repeat(error_rates, counts)

    answered = np.arange(1, len(errors) + 1)
    return answered / len(errors), np.cumsum(errors) / answered


def risk_coverage_area(predictions: Predictions) -> Measurement:
    """Return the area under the risk-coverage curve, in [0, 1]; 0 is best.

    It is the mean risk over all coverages: Geifman et al. (2019), "Bias-Reduced Uncertainty
    Estimation for Deep Neural Classifiers", section 3. The interval is Wilson's for one prediction
    per image.
    """
    risk = risk_coverage(predictions)[1]
    area = float(risk.mean())
    n = len(risk)
    low, high = proportion_interval(round(area * n), n)
    interval = (min(low, area), max(high, area))
    detail = (
        f"of the surer half of the predictions {risk[(n - 1) // 2]:.2%} are wrong, "
        f"of all {risk[-1]:.2%}"
    )

    # An error counts in the risk at every coverage that includes it: 1/k for the k most confident,
    # k from its rank on.
    weights_by_rank = np.cumsum(1 / np.arange(n, 0, -1))[::-1]
    order = np.argsort(-_confidence(predictions), kind="stable")
    weights = np.empty(n)
    weights[order] = weights_by_rank * ~predictions.correct[order]
    return Measurement(RISK_COVERAGE_AREA, area, n, interval, detail=detail, each=weights)


def confidence_rise(series: Sequence[Predictions]) -> Measurement:
    """Return the largest rise of the mean confidence from one severity to the next, in [-1, 1].

    It should be negative. The interval is normal, of the differences by image. The failures are the
    images with a rise there, the largest first.

    Args:
        series: Predictions of the same images in the order of severity, clean ones first.

    Raises:
        InputError: The images differ, or there are fewer than two severities.
    """
    first, *others = series
    if not others:
        raise InputError("confidence rise: one severity, expected at least two to compare")
    expect_same_images("confidence rise", first, *others, alike=False)

    confidence = np.stack([_confidence(predictions) for predictions in series])
    rises = np.diff(confidence, axis=0)
    largest = int(rises.mean(axis=1).argmax())
    rise = rises[largest]
    means = " → ".join(f"{mean:.3f}" for mean in confidence.mean(axis=1))
    return mean_of(
        CONFIDENCE_RISE,
        rise,
        detail=f"mean confidence {means}",
        failures=ordered(rise > 0, -rise),
    )


def mean_corruption_error(
    corrupted: Mapping[str, Sequence[Predictions]], reference: Mapping[str, Sequence[Predictions]]
) -> Measurement:
    """Return the mean corruption error: errors relative to those of a reference model.

    1 means equally many errors. The errors at all severities are divided by the reference's, and
    the result is the mean over the corruptions (Hendrycks & Dietterich 2019, section 4, in percent
    and with AlexNet as the reference). The interval is normal, by the delta method over images.

    Args:
        corrupted: For each corruption, predictions of the same images in the order of severity.
            Clean ones come first and do not count.
        reference: The same of the reference model.

    Raises:
        InputError: The two have different corruptions, or none.
        NotApplicableError: The reference makes no error under a corruption.
    """
    corruptions = list(corrupted)
    if corruptions != list(reference) or not corrupted:
        raise InputError(
            f"mean corruption error: {sorted(corrupted)} of one model and {sorted(reference)} "
            "of the other"
        )
    own_errors = _error_rates(corrupted)
    reference_errors = _error_rates(reference)
    reference_rates = reference_errors.mean(axis=1)
    if not reference_rates.all():
        flawless = corruptions[int(reference_rates.argmin())]
        raise NotApplicableError(
            f"mean corruption error: the reference model makes no error under {flawless}"
        )

    ratios = own_errors.mean(axis=1) / reference_rates
    value = float(ratios.mean())
    n = own_errors.shape[1]
    # The delta method for a ratio of two means, averaged over the corruptions.
    residuals = own_errors - ratios[:, None] * reference_errors
    influence = (residuals / reference_rates[:, None]).mean(axis=0)
    margin = Z95 * float(influence.std()) / n**0.5

    best = corruptions[int(ratios.argmin())]
    worst = corruptions[int(ratios.argmax())]
    return Measurement(
        MEAN_CORRUPTION_ERROR,
        value,
        n,
        (max(value - margin, 0.0), value + margin),
        detail=f"from {ratios.min():.2f} under {best} to {ratios.max():.2f} under {worst}",
        each=value + influence,
    )


def _error_rates(models: Mapping[str, Sequence[Predictions]]) -> np.ndarray:
    """Return the share of severities with an error, (corruptions, N); clean images do not count."""
    rates = []
    for series in models.values():
        errors = [~predictions.correct for predictions in series[1:]]
        rates.append(np.mean(errors, axis=0))
    return np.stack(rates)


def _confidence(predictions: Predictions) -> np.ndarray:
    predictions.expect_known(1)
    return np.asarray(_softmax(predictions.computed).max(axis=1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    from harness.inference.predictions import softmax

    return softmax(logits.astype(np.float64))
