"""Confidence: calibration, proper scores, selective prediction, and confidence under corruptions."""

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
    about="mean distance of confidence and accuracy over bins of confidence (expected calibration error)",
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
    about="mean error rate of the most confident predictions, over all shares of them (risk-coverage curve)",
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
    """Return the largest value of a metric for a model that is certain of each prediction, by its share of errors.

    Where confidence is 1, the calibration error is the share of errors (Guo et al. 2017, equation 3), and each error
    adds 2 to the sum of Brier scores. None for a metric without such a largest value, for example the log loss.
    """
    largest = {
        CALIBRATION_ERROR.name: errors,
        BRIER_SCORE.name: 2 * errors,
        "confident_errors": errors * n,
    }
    return largest.get(metric)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each confidence among `bins` of equal width, (N,) int64 from 0; an edge is in the bin above."""
    return np.asarray(np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1]))


def calibration_error(predictions: Predictions, *, bins: int = BINS) -> Measurement:
    """Return the expected calibration error in [0, 1]: `|accuracy - confidence|` of the bins, weighted by their counts.

    Guo et al. (2017), "On Calibration of Modern Neural Networks", equation 3. The interval is normal, by the delta
    method. The error is the mean of (correct - confidence) with the sign of its bin, which counts as known. The curve
    is the reliability diagram of clean images.
    """
    signed = signed_calibration_gaps(predictions, bins=bins)
    right, sure = predictions.correct.mean(), _confidence(predictions).mean()
    detail = f"accuracy {right:.1%}, mean confidence {sure:.1%}; {bins} bins"
    curve = reliability(predictions) if predictions.perturbation == IDENTITY else None
    return mean_of(CALIBRATION_ERROR, signed, detail=detail, curve=curve)


def reliability(predictions: Predictions) -> Curve:
    """Return accuracy against mean confidence, both in [0, 1], in `BINS` bins of confidence, with their counts."""
    confidence, correct = predictions.confidence, predictions.correct
    bins = [np.flatnonzero(bin_of(confidence) == number) for number in range(BINS)]
    return Curve(
        RELIABILITY,
        at=tuple(float(confidence[inside].mean()) if len(inside) else None for inside in bins),
        values=tuple(float(correct[inside].mean()) if len(inside) else None for inside in bins),
        counts=tuple(map(len, bins)),
    )


def signed_calibration_gaps(predictions: Predictions, *, bins: int = BINS) -> np.ndarray:
    """Return the contribution of each image to the expected calibration error, (N,); their mean is the error."""
    if bins < 1:
        raise InputError(f"calibration error: {bins} bins, expected at least 1")
    confidence = _confidence(predictions)
    which = bin_of(confidence, bins)
    gaps = predictions.correct - confidence
    signs = np.sign(np.bincount(which, gaps, minlength=bins))
    return np.asarray(signs[which] * gaps)


def negative_log_likelihood(predictions: Predictions) -> Measurement:
    """Return the mean of -log p(true class), in nats: 0 for confident correct predictions, log(classes) for a guess.

    Good (1952), "Rational Decisions".
    """
    logs = predictions.log_probabilities
    losses = -logs[np.arange(len(logs)), predictions.labels]
    return mean_of(NEGATIVE_LOG_LIKELIHOOD, losses, images=predictions.images)


def brier_score(predictions: Predictions) -> Measurement:
    """Return the mean squared distance of the probabilities from the truth, over all classes, in [0, 2].

    Brier (1950), "Verification of Forecasts Expressed in Terms of Probability", equation 2.
    """
    distances = np.square(
        _softmax(predictions.logits) - np.eye(len(predictions.classes))[predictions.labels]
    )
    return mean_of(BRIER_SCORE, distances.sum(axis=1), images=predictions.images)


def confidence_on_errors(predictions: Predictions) -> Measurement:
    """Return the mean confidence of wrong predictions, in [0, 1]; `n` is the number of all images.

    The interval is normal, over the errors. The failures are the errors, the most confident first. Raises
    `NotApplicableError` without errors.
    """
    wrong = np.flatnonzero(~predictions.correct)
    if not len(wrong):
        raise NotApplicableError(
            f"confidence on errors: all of {len(predictions.labels)} predictions are correct"
        )
    sure, n, counted = _confidence(predictions)[wrong], len(predictions.labels), len(wrong)
    shown, each = wrong[np.argsort(-sure, kind="stable")], contributions(sure, wrong, n)
    detail = f"over {counted} errors"
    return mean_of(
        CONFIDENCE_ON_ERRORS, sure, n=n, detail=detail, failures=shown, each=each, counted=counted
    )


def risk_coverage(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the curve of a model that may abstain: coverage and risk, both (N,) in [0, 1].

    Coverage is the share of the most confident predictions, from 1 / N to 1; risk is the share of errors among them.
    Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks", section 2. Predictions of equal
    confidence have no order, so each counts as their mean.
    """
    _, group, counts = np.unique(-_confidence(predictions), return_inverse=True, return_counts=True)
    errors = np.repeat(np.bincount(group, ~predictions.correct) / counts, counts)
    answered = np.arange(1, len(errors) + 1)
    return answered / len(errors), np.cumsum(errors) / answered


def risk_coverage_area(predictions: Predictions) -> Measurement:
    """Return the area under the risk-coverage curve, in [0, 1]: the mean risk over all coverages; 0 is best.

    Geifman et al. (2019), "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", section 3. The interval
    is Wilson's for one prediction per image.
    """
    risk = risk_coverage(predictions)[1]
    area, n = float(risk.mean()), len(risk)
    low, high = proportion_interval(round(area * n), n)
    detail = f"of the surer half of the predictions {risk[(n - 1) // 2]:.2%} are wrong, of all {risk[-1]:.2%}"
    # An error counts in the risk at every coverage that includes it: 1/k for the k most confident, k from its rank on.
    order, each = np.argsort(-_confidence(predictions), kind="stable"), np.empty(n)
    each[order] = np.cumsum(1 / np.arange(n, 0, -1))[::-1] * ~predictions.correct[order]
    return Measurement(
        RISK_COVERAGE_AREA, area, n, (min(low, area), max(high, area)), detail=detail, each=each
    )


def confidence_rise(series: Sequence[Predictions]) -> Measurement:
    """Return the largest rise of the mean confidence from one severity to the next, in [-1, 1]; it should be negative.

    `series` has predictions of the same images in the order of severity, clean ones first. The interval is normal, of
    the differences by image. The failures are the images with a rise there, the largest first. Raises `InputError` for
    other images, and for fewer than two severities.
    """
    first, *others = series
    if not others:
        raise InputError("confidence rise: one severity, expected at least two to compare")
    expect_same_images("confidence rise", first, *others, alike=False)
    confidence = np.stack([_confidence(predictions) for predictions in series])
    steps = np.diff(confidence, axis=0)
    worst = int(steps.mean(axis=1).argmax())
    shown = " → ".join(f"{mean:.3f}" for mean in confidence.mean(axis=1))
    rise, detail = steps[worst], f"mean confidence {shown}"
    return mean_of(CONFIDENCE_RISE, rise, detail=detail, failures=ordered(rise > 0, -rise))


def mean_corruption_error(
    corrupted: Mapping[str, Sequence[Predictions]], reference: Mapping[str, Sequence[Predictions]]
) -> Measurement:
    """Return the mean corruption error: errors relative to those of a reference model; 1 means equally many.

    Both arguments have, for each corruption, predictions of the same images in the order of severity. Clean ones come
    first and do not count. The errors at all severities are divided by the reference's. The result is the mean over
    the corruptions (Hendrycks & Dietterich 2019, section 4, in percent and with AlexNet as the reference). The interval
    is normal, by the delta method over images. Raises `InputError` unless both have the same corruptions, and
    `NotApplicableError` if the reference makes no error.
    """
    if list(corrupted) != list(reference) or not corrupted:
        raise InputError(
            f"mean corruption error: {sorted(corrupted)} of one model and {sorted(reference)} of the other"
        )
    own, others = (
        np.stack(
            [np.mean([~at.correct for at in series[1:]], axis=0) for series in models.values()]
        )
        for models in (corrupted, reference)
    )
    rates = others.mean(axis=1)
    if not rates.all():
        flawless = list(corrupted)[int(rates.argmin())]
        raise NotApplicableError(
            f"mean corruption error: the reference model makes no error under {flawless}"
        )
    ratios = own.mean(axis=1) / rates
    n = own.shape[1]
    influence = ((own - ratios[:, None] * others) / rates[:, None]).mean(axis=0)
    value, margin = float(ratios.mean()), Z95 * float(influence.std()) / n**0.5
    worst, best = (list(corrupted)[int(at)] for at in (ratios.argmax(), ratios.argmin()))
    detail = f"from {ratios.min():.2f} under {best} to {ratios.max():.2f} under {worst}"
    interval = (max(value - margin, 0.0), value + margin)
    return Measurement(
        MEAN_CORRUPTION_ERROR, value, n, interval, detail=detail, each=value + influence
    )


def _confidence(predictions: Predictions) -> np.ndarray:
    predictions.expect_known(1)
    return np.asarray(_softmax(predictions.computed).max(axis=1))


def _softmax(logits: np.ndarray) -> np.ndarray:
    from harness.inference.predictions import softmax

    return softmax(logits.astype(np.float64))
