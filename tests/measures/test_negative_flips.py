"""Negative flips, and their threshold, made of pairs of reference models."""

import numpy as np
import pytest
import torch
from zoo import CLASSES

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures import negative_flips
from harness.perturb import IDENTITY

LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])
ANSWERS = np.array([0, 1, 1, 0, 0, 2, 3, 2])  # Right are 0, 2, 5 and 6.
BEFORE = np.array([True, True, False, True, True, True, True, False])


def predictions(answers=ANSWERS, labels=LABELS) -> Predictions:
    images = LabelledImages(
        torch.zeros((len(labels), 1, 2, 2), dtype=torch.uint8),
        torch.from_numpy(labels),
        CLASSES,
        "zoo",
        "test",
    )
    logits = (
        np.eye(4, dtype=np.float32)[answers]
        * np.linspace(1, 2, len(labels), dtype=np.float32)[:, None]
    )
    return Predictions(logits, images, IDENTITY)


def test_it_counts_what_was_right_before_and_is_wrong_now():
    measured = negative_flips(predictions(), BEFORE)
    assert (measured.value, measured.n) == (3, 8)
    assert measured.failures.tolist() == [4, 3, 1], "the surest first"
    assert measured.detail == "1 gained in return; most often ant→bee, 1"
    low, high = measured.interval
    assert 0 < low < 3 < high < 8
    assert negative_flips(predictions(), BEFORE, of_class="bee").value == 1
    assert negative_flips(predictions(), BEFORE, of_class="bee").n == 2
    assert negative_flips(predictions(), BEFORE, of_class="ant").detail.startswith("0 gained"), (
        "the one is a bee"
    )
    among = np.arange(8) < 3
    measured = negative_flips(predictions(), BEFORE, among=among)
    assert (measured.value, measured.n) == (1, 8), (
        "the rate stays that among all, whatever reference models know"
    )
    measured = negative_flips(predictions(), predictions().correct)
    assert measured.value == 0
    assert not len(measured.failures)
    with pytest.raises(InputError, match="cow"):
        negative_flips(predictions(), BEFORE, of_class="cow")
