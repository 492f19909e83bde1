"""Images of no class.

AUROC and FPR95 against scikit-learn, at the edges, and for answers that are no logits.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.metrics import roc_auc_score, roc_curve
from test_measures import predictions

from harness.base.errors import InputError, NotApplicableError
from harness.measures.unknown import SCORES, unknown_auroc, unknown_fpr95

SCORE_OF = {
    # Without the last bits, in which equal probabilities differ by the order of their classes.
    "softmax": lambda logits: softmax(logits, axis=1).max(axis=1).round(12),
    "energy": lambda logits: logsumexp(logits, axis=1),
    "logit": lambda logits: logits.max(axis=1),
}


def answers(logits):
    """Return predictions with these logits, (N, classes)."""
    logits = np.asarray(logits, dtype=np.float32)
    names = tuple(f"class {at}" for at in range(logits.shape[1]))
    found = predictions(np.zeros(len(logits), int), np.zeros(len(logits), int), classes=names)
    return type(found)(logits, found.images, found.perturbation)


def drawn(seed, count, *, shift=0.0, classes=4, decimals=None):
    logits = np.random.default_rng(seed).normal(0, 2, (count, classes))
    logits[:, 0] += shift
    return answers(logits if decimals is None else logits.round(decimals))


def by_scikit_learn(known, unknown, score):
    """Return AUROC and FPR95 as OpenOOD v1.5 has them.

    Unknown images are the positives of scikit-learn's curve.
    """
    scores = np.concatenate(
        [SCORE_OF[score](each.logits.astype(np.float64)) for each in (known, unknown)]
    )
    positive = np.repeat([0, 1], [len(known.labels), len(unknown.labels)])
    false, found, _ = roc_curve(positive, -scores, drop_intermediate=False)
    return roc_auc_score(positive, -scores), false[np.argmax(found >= 0.95)]


@pytest.mark.parametrize("score", SCORES)
@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.tuples(*[st.integers(1, 60)] * 2),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([0, 3]),
)
def test_both_numbers_are_those_of_scikit_learn(score, seed, counts, shift, decimals):
    inside, outside = counts
    known, unknown = (
        drawn(seed, inside, shift=shift, decimals=decimals),
        drawn(seed + 1, outside, decimals=decimals),
    )
    area, flagged = by_scikit_learn(known, unknown, score)
    assert unknown_auroc(known, unknown, score=score).value == pytest.approx(area, abs=1e-12)
    assert unknown_fpr95(known, unknown, score=score).value == pytest.approx(flagged, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 2, 40]))
def test_values_lie_in_their_intervals(seed, inside, outside, shift):
    known, unknown = drawn(seed, inside, shift=shift), drawn(seed + 1, outside)
    for measure in (unknown_auroc, unknown_fpr95):
        found = measure(known, unknown, score="energy")
        low, high = found.interval
        assert 0 <= low <= found.value <= high <= 1
        assert low < high
        assert found.each.mean() == pytest.approx(found.value)


def test_each_image_has_the_variance_of_delong_and_intervals_cover():
    # Normal scores one standard deviation apart have an area of Φ(1/√2).
    rng, truth, covered = np.random.default_rng(0), 0.7602499, 0
    for _ in range(400):
        known, unknown = (
            answers(np.column_stack([rng.normal(mean, 1, count), np.full(count, -99)]))
            for mean, count in ((1, 60), (0, 80))
        )
        low, high = unknown_auroc(known, unknown, score="logit").interval
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.99
    known, unknown = drawn(3, 300, shift=1), drawn(4, 200)
    found = unknown_auroc(known, unknown, score="logit")
    a, b = (each.logits.max(axis=1) for each in (known, unknown))
    above = (a[:, None] > b).mean(axis=1)
    below = (a[:, None] > b).mean(axis=0)
    assert found.each.var() / found.n == pytest.approx(above.var() / 300 + below.var() / 200)


@pytest.mark.parametrize(("count", "high"), [(71, 1.0), (72, pytest.approx(0.037, abs=1e-4))])
def test_so_many_unknown_images_bound_the_threshold(count, high):
    """The most familiar of 72 is above the 95th percentile with 97.5%.

    0.95 to the power of 72 is below 2.5%.
    """
    known, unknown = (
        answers(np.column_stack([level + np.arange(n), np.full(n, -99)]))
        for level, n in ((200, 100), (0, count))
    )
    assert unknown_fpr95(known, unknown, score="logit").interval == (0.0, high)


@pytest.mark.parametrize("score", ["energy", "logit"])
def test_probabilities_have_no_energy(score):
    known, unknown = (answers(log_softmax(drawn(seed, 50).logits, axis=1)) for seed in (1, 2))
    with pytest.raises(NotApplicableError, match="returns probabilities, not logits"):
        unknown_auroc(known, unknown, score=score)
    assert 0 < unknown_auroc(known, unknown, score="softmax").value < 1


def test_softmax_takes_top_classes_and_rounded_probabilities():
    known, unknown = (replace(drawn(seed, 50), known=2) for seed in (1, 2))
    assert 0 < unknown_fpr95(known, unknown).value <= 1
    with pytest.raises(NotApplicableError, match="top 2 classes only"):
        unknown_fpr95(known, unknown, score="energy")
    known, unknown = answers([[90, 0, 0], [80, 0, 0]]), answers([[60, 0, 0], [70, 0, 0]])
    assert unknown_auroc(known, unknown, score="softmax").value == 1
    with pytest.raises(InputError, match="expected one of softmax, energy, logit"):
        unknown_auroc(drawn(1, 5), drawn(2, 5), score="entropy")


@pytest.mark.parametrize("score", SCORES)
def test_labels_alone_say_nothing_of_unknown_images(score):
    known, unknown = (replace(drawn(seed, 50), known=0) for seed in (1, 2))
    with pytest.raises(NotApplicableError, match="labels only"):
        unknown_auroc(known, unknown, score=score)
