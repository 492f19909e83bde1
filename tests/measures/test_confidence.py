"""Calibration, proper scores and selective prediction.

By hand, at the edges, and against scikit-learn.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss
from test_measures import CONFIDENCE, LABELS, PREDICTED, predictions

from harness.base.errors import InputError, NotApplicableError
from harness.measures.confidence import (
    bin_of,
    brier_score,
    calibration_error,
    confidence_on_errors,
    confidence_rise,
    mean_corruption_error,
    negative_log_likelihood,
    risk_coverage,
    risk_coverage_area,
)


@pytest.fixture
def by_hand():
    return predictions(LABELS, PREDICTED, CONFIDENCE)


def drawn(seed, count=200, classes=4):
    rng = np.random.default_rng(seed)
    names = tuple("abcdefgh"[:classes])
    found = predictions(rng.integers(0, classes, count), np.zeros(count, dtype=int), classes=names)
    logits = rng.normal(0, 2, (count, classes)).astype(np.float32)
    logits[np.arange(count), found.labels] += 1.5
    return type(found)(logits, found.images, found.perturbation)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_an_edge_belongs_to_the_bin_above_and_1_to_the_last(bins):
    edges = np.linspace(0, 1, bins + 1)
    assert bin_of(edges, bins).tolist() == [*range(bins), bins - 1]
    assert bin_of(np.nextafter(edges[1:], 0), bins).tolist() == list(range(bins))
    assert bin_of(np.nextafter(1.0, 2), bins) == bins - 1


def test_calibration_error_by_hand(by_hand):
    # Two bins: 0.5, 0.6, 0.95, 0.7, 0.8, 0.9, 0.99, 0.7, 0.9 are above, and 0.4, which is right,
    # below.
    above = [0.9, 0.5, 0.6, 0.95, 0.7, 0.8, 0.9, 0.99, 0.7]
    expected = 0.9 * abs(5 / 9 - np.mean(above)) + 0.1 * abs(1 - 0.4)
    measured = calibration_error(by_hand, bins=2)
    assert measured.value == pytest.approx(expected, abs=1e-6)
    assert (measured.metric.name, measured.unit.value, measured.n) == (
        "calibration_error",
        "share",
        10,
    )
    assert measured.interval[0] <= measured.value <= measured.interval[1]
    assert measured.detail == "accuracy 60.0%, mean confidence 74.4%; 2 bins"
    sure = predictions([0, 0, 1, 1], [0, 0, 1, 0], [1.0, 1.0, 1.0, 1.0])
    assert calibration_error(sure).value == pytest.approx(0.25)
    right = predictions([0, 1], [0, 1], [1.0, 1.0])
    assert calibration_error(right).value == 0
    assert negative_log_likelihood(right).value == pytest.approx(0)


def naive_calibration_error(found, bins):
    """The published sum, bin by bin."""
    total, sure = 0.0, found.probabilities.astype(np.float64).max(axis=1)
    edges = np.linspace(0, 1, bins + 1)
    for low, high in zip(edges, (*edges[1:-1], 2.0), strict=False):
        inside = [at for at, confidence in enumerate(sure) if low <= confidence < high]
        if inside:
            total += (
                len(inside) / len(sure) * abs(found.correct[inside].mean() - sure[inside].mean())
            )
    return total


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), bins=st.integers(1, 20))
def test_calibration_error_is_the_published_sum(seed, bins):
    found = drawn(seed, count=80)
    assert calibration_error(found, bins=bins).value == pytest.approx(
        naive_calibration_error(found, bins), abs=1e-5
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), classes=st.integers(3, 6))
def test_scores_are_scikit_learns(seed, classes):
    found = drawn(seed, classes=classes)
    shares = torch.from_numpy(found.logits).double().softmax(dim=1).numpy()
    every = range(classes)
    assert negative_log_likelihood(found).value == pytest.approx(
        log_loss(found.labels, shares, labels=every), rel=1e-9
    )
    brier = brier_score_loss(found.labels, shares, labels=list(every), scale_by_half=False)
    assert brier_score(found).value == pytest.approx(brier, rel=1e-9)


def test_confidence_on_errors_by_hand(by_hand):
    measured = confidence_on_errors(by_hand)
    assert measured.value == pytest.approx(np.mean([0.6, 0.95, 0.8, 0.7]))
    assert (measured.n, measured.failures.tolist()) == (10, [3, 5, 8, 2])
    assert "over 4 errors" in measured.detail
    with pytest.raises(NotApplicableError, match="all of 2 predictions are correct"):
        confidence_on_errors(predictions([0, 1], [0, 1]))
    large, small = drawn(0, count=200_000), [drawn(seed, count=300) for seed in range(1, 200)]
    for measure in (brier_score, negative_log_likelihood):
        truth, intervals = measure(large).value, [measure(found).interval for found in small]
        assert 0.9 < np.mean([low <= truth <= high for low, high in intervals]) < 0.99


def test_risk_coverage_by_hand():
    found = predictions([0, 0, 0, 0], [0, 1, 0, 0], [0.9, 0.8, 0.7, 0.6])
    coverage, risk = risk_coverage(found)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    measured = risk_coverage_area(found)
    assert measured.value == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert measured.detail == "of the surer half of the predictions 50.00% are wrong, of all 25.00%"
    labels = [0, 0, 1, 1]
    one, other = (
        predictions(labels, answers, [0.8] * 4) for answers in ([0, 1, 1, 1], [0, 0, 1, 0])
    )
    for found in (one, other):
        assert risk_coverage(found)[1].tolist() == pytest.approx([0.25] * 4)


def test_confidence_rise_is_the_largest_step(by_hand):
    clean, first, second = (
        predictions([0, 0], [0, 0], sure) for sure in ([0.9, 0.9], [0.6, 0.7], [0.9, 0.6])
    )
    measured = confidence_rise([clean, first, second])
    assert measured.value == pytest.approx(0.1, abs=1e-6)
    assert (measured.unit.value, measured.n, measured.failures.tolist()) == ("difference", 2, [0])
    assert measured.detail == "mean confidence 0.900 → 0.650 → 0.750"
    falling = confidence_rise([clean, first])
    assert falling.value == pytest.approx(-0.25, abs=1e-6)
    assert falling.failures.tolist() == []
    with pytest.raises(InputError, match="one severity, expected at least two"):
        confidence_rise([by_hand])


def test_mean_corruption_error_by_hand():
    labels = [0, 0, 0, 0]
    answers = {
        errors: predictions(labels, [1] * errors + [0] * (4 - errors)) for errors in range(5)
    }
    own = {
        "fog": [answers[4], answers[1], answers[2]],
        "noise": [answers[4], answers[2], answers[4]],
    }
    reference = {
        "fog": [answers[0], answers[2], answers[4]],
        "noise": [answers[0], answers[1], answers[2]],
    }
    measured = mean_corruption_error(own, reference)
    assert measured.value == pytest.approx((3 / 6 + 6 / 3) / 2)
    assert (measured.unit.value, measured.n) == ("factor", 4)
    assert measured.detail == "from 0.50 under fog to 2.00 under noise"
    same = mean_corruption_error(reference, reference)
    assert (same.value, same.interval) == (1.0, (1.0, 1.0))
    right, wrong = predictions([0], [0]), predictions([0], [1])
    with pytest.raises(NotApplicableError, match="the reference model makes no error under fog"):
        mean_corruption_error({"fog": [right, wrong]}, {"fog": [wrong, right]})
    with pytest.raises(InputError, match=r"\['fog'\] of one model and \['jpeg'\] of the other"):
        mean_corruption_error({"fog": [wrong]}, {"jpeg": [wrong]})
    with pytest.raises(InputError):
        mean_corruption_error({}, {})


ROWS = "".join(
    f"""
[[check]]
id = "{metric.replace("_", "-")}"
family = "confidence"
metric = "{metric}"
direction = "at_most"
hand = {{ threshold = {threshold} }}
"""
    for metric, threshold in {
        "calibration_error": 0.6,
        "negative_log_likelihood": 1.2,
        "brier_score": 0.7,
        "confidence_on_errors": 0.8,
        "risk_coverage_area": 0.3,
    }.items()
)


@pytest.mark.zoo(ROWS, tests=("calibration",))
def test_sure_and_wrong_fails_and_a_good_network_passes(zoo):
    for blind, status, exit_status in ((False, "pass", 0), (True, "fail", 1)):
        zoo.save("models/augmented.safetensors", blind=blind)
        assert zoo.run("--baseline", "none").ret == exit_status
        assert list(zoo.statuses.values()) == [status] * 5
