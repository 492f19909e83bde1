"""Negative flips, and their threshold, made of pairs of reference models."""

import numpy as np
import pytest
import torch
from zoo import CLASSES

from harness.base.errors import InputError
from harness.calibration.thresholds import multiplier
from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures import negative_flips
from harness.measures.panel.threshold import on_scale
from harness.perturb import IDENTITY

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
ANSWERS = np.array([0, 1, 1, 0, 0, 2, 3, 2])  # Right are 0, 2, 5 and 6.
BEFORE = np.array([True, True, False, True, True, True, True, False])


def predictions(answers=ANSWERS, labels=LABELS) -> Predictions:
    images = LabelledImages(
        torch.zeros((len(labels), 1, 2, 2), dtype=torch.uint8), torch.from_numpy(labels), CLASSES, "zoo", "test"
    )
    logits = np.eye(4, dtype=np.float32)[answers] * np.linspace(1, 2, len(labels), dtype=np.float32)[:, None]
    return Predictions(logits, images, IDENTITY)


def test_it_counts_what_was_right_before_and_is_wrong_now():
    measured = negative_flips(predictions(), BEFORE)
    assert (measured.value, measured.n) == (3, 8)
    assert measured.failures.tolist() == [4, 3, 1], "the surest first"
    assert measured.detail == "1 gained in return; most often ant→bee, 1"
    low, high = measured.interval
    assert 0 < low < 3 < high < 8


def test_of_one_class_and_among_some_images():
    assert negative_flips(predictions(), BEFORE, of_class="bee").value == 1
    assert negative_flips(predictions(), BEFORE, of_class="bee").n == 2
    among = np.arange(8) < 3
    measured = negative_flips(predictions(), BEFORE, among=among)
    assert (measured.value, measured.n) == (1, 8), "the rate stays that among all, whatever reference models know"


def test_a_model_that_keeps_all_that_was_right_loses_nothing():
    measured = negative_flips(predictions(), predictions().correct)
    assert measured.value == 0
    assert not len(measured.failures)
    with pytest.raises(InputError, match="cow"):
        negative_flips(predictions(), BEFORE, of_class="cow")


def test_a_maximum_from_a_ring_of_models_keeps_its_rate_of_false_alarms():
    """Pairs of one panel share members; those of a ring do so as little as can be, and the rule holds for them.

    A network's errors as a candidate and as an incumbent are correlated: a good one loses little, and has much to lose.
    """
    rng, members, trials = np.random.default_rng(0), 20, 1_500
    for share in (0.05, 0.01):
        k, alarms = multiplier(np.eye(1), share=share, reference_models=members), 0
        for _ in range(trials):
            skill = rng.normal(0, 12, members + 2)
            count = rng.poisson(np.maximum(178 - skill[:-1] + skill[1:], 1))
            ring = on_scale(np.append(count[: members - 1], rng.poisson(178 - skill[members - 1] + skill[0])), "root")
            new = on_scale(np.array([rng.poisson(178 - skill[members] + skill[members + 1])]), "root")[0]
            alarms += new > ring.mean() + k * ring.std(ddof=1) * np.sqrt(1 + 1 / members)
        assert 0.3 * share < alarms / trials < 1.8 * share
