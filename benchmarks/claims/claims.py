"""The study's claims, the measure of each, and the rule that decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["confirmed", "refuted", "not decided", "not measured"]
LEVEL = 0.95


@dataclass(frozen=True)
class Claim:
    """A claim and its measure, `value` by its name in `benchmarks.claims.measure`.

    The claim is that augmentation raises (`sign` 1) or lowers (-1) the mean of the value. With a
    `reference`, it says that the baselines' mean lies above or below it. With `reported`,
    augmentation changes the mean by that much. `images` names the images of the measure, see
    `Pictures.counts`.
    """

    says: str
    measure: str
    value: str
    images: str = "test"
    unit: Literal["share", "points", "images", "factor", "score"] = "share"
    sign: int = 1
    reference: float | None = None
    reported: float | None = None


@dataclass(frozen=True)
class Decision:
    """Verdict on a claim, with means and standard deviations over seeds.

    An estimate decides. The estimate is the difference of the means, augmented minus baseline, or
    that of the baselines' mean to the reference.
    """

    baseline: tuple[float, float, int]
    augmented: tuple[float, float, int]
    estimate: float
    interval: tuple[float, float]
    verdict: Verdict


PAIRS_BY_CHANCE = 5 / 45
"""The study's five pairs of classes among all 45: their share of the errors if no pair were
likelier than another.
"""

_GENERALIZES = "Augmentation generalizes better: "
_DISCRIMINATES = "Augmentation makes features more discriminative: "
_CHANGES = {
    "Shirt": 0.021,
    "Coat": 0.012,
    "Trouser": 0.012,
    "T-shirt/top": -0.019,
    "Pullover": -0.011,
    "Sandal": -0.012,
}
CLAIMS = (
    Claim(
        "The baseline is overconfident",
        "mean confidence minus accuracy; above 0 in the baselines",
        "overconfidence",
        unit="points",
        reference=0.0,
    ),
    Claim(
        "Augmentation makes fewer errors at high confidence",
        "errors at over 90% confidence",
        "confident errors",
        unit="images",
        sign=-1,
    ),
    Claim(
        "The baseline confuses classes that resemble each other",
        "share of its errors in the study's five pairs; above 5 of 45, which is chance",
        "share of similar errors",
        reference=PAIRS_BY_CHANCE,
    ),
    Claim(
        "Augmentation thins these confusions out",
        "errors in the five pairs",
        "similar errors",
        unit="images",
        sign=-1,
    ),
    Claim(
        "Where the baseline errs, it looks at the background",
        "Grad-CAM's lift on the object over wrong predictions; below 1, the uniform baseline",
        "lift of errors",
        "sample",
        "factor",
        sign=-1,
        reference=1.0,
    ),
    Claim(
        "The baseline uses texture more than shape",
        "accuracy on shuffled 7×7 patches minus that on silhouettes; above 0 in the baselines",
        "texture over shape",
        "sample",
        "points",
        reference=0.0,
    ),
    Claim(f"{_GENERALIZES}clean images", "accuracy", "accuracy"),
    Claim(
        f"{_GENERALIZES}under pose",
        "mean accuracy at the eight corners of ±10° and ±2 px",
        "accuracy at corners",
        "sample",
    ),
    Claim(
        f"{_GENERALIZES}at the worst pose",
        "correct at all 225 poses within ±10° and ±2 px",
        "right at every pose",
        "few",
    ),
    Claim(
        "Augmentation puts the attention on the object",
        "Grad-CAM's lift on the object",
        "lift",
        "sample",
        "factor",
    ),
    Claim(
        "Augmentation makes the object decide, not the background",
        "same prediction before a faint image of another class",
        "kept in clutter",
        "sample",
    ),
    Claim(
        "Augmentation overfits less",
        "accuracy on training minus that on validation images",
        "gap",
        "training",
        "points",
        sign=-1,
    ),
    Claim(
        f"{_DISCRIMINATES}clean images",
        "silhouette score of the classes in the penultimate layer",
        "separation",
        "sample",
        "score",
    ),
    Claim(
        f"{_DISCRIMINATES}under pose",
        "the same, images moved to the corners of ±10° and ±2 px",
        "separation when moved",
        "sample",
        "score",
    ),
    *(
        Claim(
            f"{name} {100 * change:+.1f} points".replace("-1", "−1"),
            "accuracy of the class",
            f"accuracy of {name}",
            "class",
            reported=change,
        )
        for name, change in _CHANGES.items()
    ),
)
"""Claims of the study about its two networks.

Measures and rule were fixed before the seeds were measured.
"""


def decide(claim: Claim, baseline: Sequence[float], augmented: Sequence[float]) -> Decision:
    """Decide a claim by the values of the networks of both kinds.

    The interval is at 95%: Welch's of the difference of two means (Welch 1947), or Student's of the
    mean's difference to a reference. A direction is confirmed when the interval lies on its side of
    zero, refuted when it lies on the other. A reported change is refuted when the interval excludes
    it, and confirmed when it contains it and excludes zero. Otherwise, and with fewer than two
    networks of a kind, nothing is decided.
    """
    one, two = np.asarray(baseline, dtype=float), np.asarray(augmented, dtype=float)
    facts = _facts(one), _facts(two)
    if not len(one) or (claim.reference is None and not len(two)):
        return Decision(*facts, math.nan, (math.nan, math.nan), "not measured")
    estimate = float(
        one.mean() - claim.reference if claim.reference is not None else two.mean() - one.mean()
    )
    margin = _margin((one,) if claim.reference is not None else (one, two))
    low, high = estimate - margin, estimate + margin
    above, below = low > 0, high < 0
    confirmed, refuted = (above, below) if claim.sign > 0 else (below, above)
    if claim.reported is not None:
        inside = low <= claim.reported <= high
        confirmed, refuted = inside and (above or below), not inside and not math.isnan(margin)
    verdict: Verdict = "confirmed" if confirmed else "refuted" if refuted else "not decided"
    return Decision(*facts, estimate, (low, high), verdict)


def _margin(groups: Sequence[np.ndarray]) -> float:
    """Return half the width of the interval of a mean, or of the difference of two."""
    from scipy.stats import t

    if min(map(len, groups)) < 2:
        return math.nan
    shares = [float(group.var(ddof=1)) / len(group) for group in groups]
    if not any(shares):
        return 0.0
    # Welch and Satterthwaite's degrees of freedom, which for a single group are Student's.
    degrees = sum(shares) ** 2 / sum(
        share**2 / (len(group) - 1) for share, group in zip(shares, groups, strict=True)
    )
    return float(t.ppf((1 + LEVEL) / 2, degrees) * math.sqrt(sum(shares)))


def _facts(values: np.ndarray) -> tuple[float, float, int]:
    if not len(values):
        return math.nan, math.nan, 0
    return (
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        len(values),
    )
