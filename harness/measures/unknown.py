"""Images of no class: how well a model's own scores tell them from the images that it knows.

Definitions are those of OpenOOD v1.5 (Zhang et al. 2023, arXiv 2306.09301). Unknown images are the
positives. FPR95 is the share of known images that a threshold flags, if it flags 95% of the unknown
images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.statistics import Z95, proportion_interval

if TYPE_CHECKING:
    from harness.inference import Predictions

Score = Literal["softmax", "energy", "logit"]
SCORES: tuple[Score, ...] = get_args(Score)
"""Scores of familiarity.

- softmax: the largest probability (Hendrycks & Gimpel 2017);
- energy: the log of the sum of exponents of logits (Liu et al. 2020), at temperature 1;
- logit: the largest logit (Hendrycks et al. 2022).
"""
_FLAGGED_UNKNOWN = 0.95
"""Share of unknown images that the threshold of FPR95 flags."""
_TINY = 1e-12
_NORMALIZED = 2e-3
"""Energy of probabilities, which sum to 1 within their rounding."""

UNKNOWN_AUROC = Metric(
    "unknown_auroc",
    Unit.SHARE,
    better="more",
    words="AUROC of unknown images",
    about="how well confidence separates images of the classes from images of none: "
    "the area under the ROC curve",
)
UNKNOWN_FPR95 = Metric(
    "unknown_fpr95",
    Unit.SHARE,
    better="less",
    words="FPR95 of unknown images",
    about="share of images of the classes that are flagged by a threshold that flags 95% of the "
    "images of none",
)


def unknown_auroc(
    known: Predictions, unknown: Predictions, *, score: Score | None = None
) -> Measurement:
    """Return the probability that a known image scores higher than an unknown one, in [0, 1].

    Ties count half. The interval is Newcombe's (2006, part 2, method 5), also valid at 0 and 1.
    Raises as `familiarity` does.
    """
    known_scores, unknown_scores = familiarity(known, unknown, score)
    known_count = len(known_scores)
    unknown_count = len(unknown_scores)
    n = known_count + unknown_count

    above = _shares_below(known_scores, unknown_scores)
    below = 1 - _shares_below(unknown_scores, known_scores)
    area = float(above.mean())
    # The mean of these contributions is the area, and their variance over n is that of DeLong et
    # al. (1988).
    of_known = (above - area) * n / known_count
    of_unknown = (below - area) * n / unknown_count
    contributions = area + np.concatenate([of_known, of_unknown])

    flagged = _flagged(known_scores, unknown_scores).mean()
    detail = f"by {score or SCORES[0]}; {unknown_count} unknown images, FPR95 {flagged:.1%}"
    interval = _area_interval(area, known_count, unknown_count)
    return Measurement(UNKNOWN_AUROC, area, n, interval, detail=detail, each=contributions)


def unknown_fpr95(
    known: Predictions, unknown: Predictions, *, score: Score | None = None
) -> Measurement:
    """Return the share of known images that a threshold flags with 95% of the unknown, in [0, 1].

    `n` counts the known images. The interval combines Wilson's with that of the threshold. Raises
    as `familiarity` does.
    """
    known_scores, unknown_scores = familiarity(known, unknown, score)
    flagged = _flagged(known_scores, unknown_scores)
    area = _shares_below(known_scores, unknown_scores).mean()
    detail = f"by {score or SCORES[0]}; {len(unknown_scores)} unknown images, AUROC {area:.3f}"
    return Measurement(
        UNKNOWN_FPR95,
        float(flagged.mean()),
        len(known_scores),
        _flagged_interval(known_scores, unknown_scores),
        detail=detail,
        each=flagged,
    )


def familiarity(
    known: Predictions, unknown: Predictions, score: Score | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the familiarity of known and unknown images, (N,) and (M,) float64.

    Higher is more familiar.

    Args:
        known: Predictions of images of the classes.
        unknown: Predictions of images of no class.
        score: The score; by default softmax.

    Raises:
        InputError: The score is unknown.
        NotApplicableError: There are no images, or no probabilities. For energy and logits, also a
            model that returns probabilities: their energy is 0, and their largest logit is
            equivalent to softmax.
    """
    if score not in {None, *SCORES}:
        raise InputError(f"score {score!r} is unknown; expected one of {', '.join(SCORES)}")
    if len(known.labels) == 0 or len(unknown.labels) == 0:
        raise NotApplicableError(
            "unknown images: expected at least one known and one unknown image"
        )
    if score in {None, "softmax"}:
        known.expect_known(1)
        unknown.expect_known(1)
        return _log_odds(known.computed), _log_odds(unknown.computed)

    known_energy = _energy(known)
    unknown_energy = _energy(unknown)
    if max(np.abs(known_energy).max(), np.abs(unknown_energy).max()) < _NORMALIZED:
        raise NotApplicableError(
            f"{score}: the model returns probabilities, not logits; use the score softmax"
        )
    if score == "energy":
        return known_energy, unknown_energy
    return _largest_logit(known), _largest_logit(unknown)


def _energy(predictions: Predictions) -> np.ndarray:
    """Return the log of the sum of exponents of each image's logits, (N,) float64."""
    from scipy.special import logsumexp

    return np.asarray(logsumexp(predictions.logits.astype(np.float64), axis=1))


def _largest_logit(predictions: Predictions) -> np.ndarray:
    return np.asarray(predictions.logits.max(axis=1).astype(np.float64))


def _log_odds(logits: np.ndarray) -> np.ndarray:
    """Return the log odds of the largest probability p, log p/(1 - p), (N,).

    They have the order of p, and do not round to 1.
    """
    from scipy.special import logsumexp

    ordered = np.sort(logits.astype(np.float64), axis=1)
    if ordered.shape[1] == 1:
        return np.zeros(len(ordered))
    # Relative to the largest logit, so that neither the order of classes nor a shift of all logits
    # changes a bit.
    return np.asarray(-logsumexp(ordered[:, :-1] - ordered[:, -1:], axis=1))


def _shares_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each score the share of the others that are lower, ties as one half."""
    ordered = np.sort(others)
    lower = np.searchsorted(ordered, scores, "left")
    lower_or_equal = np.searchsorted(ordered, scores, "right")
    return np.asarray((lower + lower_or_equal) / (2 * len(others)))


def _flagged(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Return the known images that a threshold flags with 95% of the unknown, (N,) bool."""
    shares = np.arange(1, len(unknown) + 1) / len(unknown)
    # The first score that flags at least 95%.
    rank = int(np.argmax(shares >= _FLAGGED_UNKNOWN))
    threshold = np.sort(unknown)[rank]
    return np.asarray(known <= threshold)


def _flagged_interval(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the share of known images that are flagged."""
    from scipy.stats import binom

    # These order statistics are the ends of an interval for the 95th percentile of the scores of
    # all unknown images.
    ordered = np.sort(unknown)
    count = len(unknown)
    low = int(binom.ppf(0.025, count, _FLAGGED_UNKNOWN))
    high = int(binom.ppf(0.975, count, _FLAGGED_UNKNOWN)) + 1

    fewest = 0
    if low > 0:
        fewest = int((known <= ordered[low - 1]).sum())
    most = len(known)
    if high <= count:
        most = int((known <= ordered[high - 1]).sum())
    lower_end, _ = proportion_interval(fewest, len(known))
    _, upper_end = proportion_interval(most, len(known))
    return lower_end, upper_end


def _area_interval(area: float, known: int, unknown: int) -> tuple[float, float]:
    """Return Newcombe's 95% interval (2006, part 2, method 5) of an area under the ROC curve."""
    from scipy.optimize import brentq

    average = (known + unknown) / 2 - 1

    def standard_error(true: float) -> float:
        variance = 1 + average * ((1 - true) / (2 - true) + true / (1 + true))
        return float(np.sqrt(true * (1 - true) * variance / (known * unknown)))

    # At exactly 0 and 1 the standard error is zero.
    start = min(max(area, _TINY), 1 - _TINY)

    def end(direction: int) -> float:
        limit = 1.0
        if direction < 0:
            limit = 0.0
        if area == limit:
            return limit

        def excess(true: float) -> float:
            return direction * (true - area) - Z95 * standard_error(true)

        return float(brentq(excess, start, limit))

    return end(-1), end(1)
