"""Images of no class: how well a model's own scores tell them from the images that it knows.

Definitions are those of OpenOOD v1.5 (Zhang et al. 2023, arXiv 2306.09301). Unknown images are the positives. FPR95 is
the share of known images that a threshold flags, if it flags 95% of the unknown ones.
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
"""Scores of familiarity: the largest probability, the log of the sum of exponents of logits, the largest logit.

Hendrycks & Gimpel (2017); Liu et al. (2020), at temperature 1; Hendrycks et al. (2022).
"""
_FOUND = 0.95
_TINY = 1e-12
_NORMALIZED = 2e-3
"""Energy of probabilities, which sum to 1 within their rounding."""

UNKNOWN_AUROC = Metric(
    "unknown_auroc",
    Unit.SHARE,
    better="more",
    words="AUROC of unknown images",
    about="how well confidence separates images of the classes from images of none: the area under the ROC curve",
)
UNKNOWN_FPR95 = Metric(
    "unknown_fpr95",
    Unit.SHARE,
    better="less",
    words="FPR95 of unknown images",
    about="share of images of the classes that are flagged by a threshold that flags 95% of the images of none",
)


def unknown_auroc(
    known: Predictions, unknown: Predictions, *, score: Score | None = None
) -> Measurement:
    """Return the probability that a known image scores higher than an unknown one, in [0, 1]; ties count half.

    The interval is Newcombe's (2006, part 2, method 5), also valid at 0 and 1. Raises as `familiarity` does.
    """
    inside, outside = familiarity(known, unknown, score)
    above = _shares_below(inside, outside)
    below = 1 - _shares_below(outside, inside)
    area, n = float(above.mean()), len(inside) + len(outside)
    # Their mean is the area, and their variance over n is that of DeLong et al. (1988).
    each = area + np.concatenate(
        [(above - area) * n / len(inside), (below - area) * n / len(outside)]
    )
    flagged = _flagged(inside, outside).mean()
    detail = f"by {score or SCORES[0]}; {len(outside)} unknown images, FPR95 {flagged:.1%}"
    interval = _area_interval(area, len(inside), len(outside))
    return Measurement(UNKNOWN_AUROC, area, n, interval, detail=detail, each=each)


def unknown_fpr95(
    known: Predictions, unknown: Predictions, *, score: Score | None = None
) -> Measurement:
    """Return the share of known images that a threshold flags together with 95% of the unknown ones, in [0, 1].

    `n` counts the known images. The interval combines Wilson's with that of the threshold. Raises as `familiarity`.
    """
    inside, outside = familiarity(known, unknown, score)
    flagged = _flagged(inside, outside)
    area = _shares_below(inside, outside).mean()
    detail = f"by {score or SCORES[0]}; {len(outside)} unknown images, AUROC {area:.3f}"
    interval = _flagged_interval(inside, outside)
    return Measurement(
        UNKNOWN_FPR95, float(flagged.mean()), len(inside), interval, detail=detail, each=flagged
    )


def familiarity(
    known: Predictions, unknown: Predictions, score: Score | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the familiarity of known and unknown images, (N,) and (M,) float64; `score` is by default softmax.

    Higher is more familiar. Raises `NotApplicableError` for labels without probabilities. Also for energy and logits of
    a model that returns probabilities: their energy is 0, and their largest logit is equivalent to softmax.
    """
    if score not in {None, *SCORES}:
        raise InputError(f"score {score!r} is unknown; expected one of {', '.join(SCORES)}")
    if not (len(known.labels) and len(unknown.labels)):
        raise NotApplicableError(
            "unknown images: expected at least one known and one unknown image"
        )
    if score in {None, "softmax"}:
        known.expect_known(1)
        unknown.expect_known(1)
        return _surety(known.computed), _surety(unknown.computed)
    from scipy.special import logsumexp

    inside, outside = (
        logsumexp(each.logits.astype(np.float64), axis=1) for each in (known, unknown)
    )
    if max(np.abs(inside).max(), np.abs(outside).max()) < _NORMALIZED:
        raise NotApplicableError(
            f"{score}: the model returns probabilities, not logits; use the score softmax"
        )
    if score == "energy":
        return inside, outside
    return known.logits.max(axis=1).astype(np.float64), unknown.logits.max(axis=1).astype(
        np.float64
    )


def _surety(logits: np.ndarray) -> np.ndarray:
    # In the order of the largest probability p, without rounding to 1: minus the log of 1/p - 1.
    from scipy.special import logsumexp

    ordered = np.sort(logits.astype(np.float64), axis=1)
    if ordered.shape[1] == 1:
        return np.zeros(len(ordered))
    # Relative to the largest: neither the order of the classes nor a shift of all logits changes a bit.
    return np.asarray(-logsumexp(ordered[:, :-1] - ordered[:, -1:], axis=1))


def _shares_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(others)))


def _flagged(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    rank = int(
        np.argmax(np.arange(1, len(unknown) + 1) / len(unknown) >= _FOUND)
    )  # This is 95%, rounded up.
    return np.asarray(known <= np.sort(unknown)[rank])


def _flagged_interval(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    from scipy.stats import binom

    # These order statistics are the bounds of the 95th percentile of all unknown images' scores.
    ordered, n = np.sort(unknown), len(unknown)
    low, high = int(binom.ppf(0.025, n, _FOUND)), int(binom.ppf(0.975, n, _FOUND)) + 1
    first = int((known <= ordered[low - 1]).sum()) if low else 0
    last = int((known <= ordered[high - 1]).sum()) if high <= n else len(known)
    return proportion_interval(first, len(known))[0], proportion_interval(last, len(known))[1]


def _area_interval(area: float, known: int, unknown: int) -> tuple[float, float]:
    from scipy.optimize import brentq

    average = (known + unknown) / 2 - 1

    def error(true: float) -> float:
        variance = 1 + average * ((1 - true) / (2 - true) + true / (1 + true))
        return float(np.sqrt(true * (1 - true) * variance / (known * unknown)))

    def end(way: int) -> float:
        limit = 0.0 if way < 0 else 1.0
        if area == limit:
            return limit
        start = min(max(area, _TINY), 1 - _TINY)  # At exactly 0 and 1 the error is zero.
        return float(brentq(lambda true: way * (true - area) - Z95 * error(true), start, limit))

    return end(-1), end(1)
