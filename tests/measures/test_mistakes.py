"""Wrong answers are put in order, and confusions counted, as by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo import images_of

from harness.inference import Predictions
from harness.measures.accuracy import confused_pairs, confusion_matrix
from harness.measures.selection import most_confident
from harness.perturb import IDENTITY

LABELS = [0, 0, 0, 1, 1, 2, 3, 3]
ANSWERS = [1, 1, 0, 0, 2, 1, 3, 0]
CONFIDENCE = [0.6, 0.9, 0.99, 0.7, 0.6, 0.8, 0.99, 0.5]


@pytest.fixture
def by_hand() -> Predictions:
    shares = np.repeat((1 - np.array(CONFIDENCE))[:, None] / 3, 4, axis=1)
    shares[np.arange(len(LABELS)), ANSWERS] = CONFIDENCE
    images = replace(images_of(len(LABELS)), labels=torch.tensor(LABELS))
    return Predictions(np.log(shares).astype(np.float32), images, IDENTITY)


def test_confusions_count_either_way_and_failures_stand_by_confidence(by_hand):
    assert most_confident(by_hand, ~by_hand.correct).tolist() == [1, 5, 3, 0, 4, 7]
    assert most_confident(by_hand, np.zeros(len(LABELS), dtype=bool)).tolist() == []
    expected = [[1, 2, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]]
    assert confusion_matrix(by_hand).tolist() == expected
    few = np.array(LABELS) == 3
    assert confusion_matrix(by_hand, few).tolist() == [[0] * 4, [0] * 4, [0] * 4, [1, 0, 0, 1]]
    first, second, third, fourth = by_hand.classes
    assert confused_pairs(by_hand) == [(first, second), (second, third), (first, fourth)]
    assert confused_pairs(by_hand, most=1) == [(first, second)]
    assert confused_pairs(replace(by_hand, answers=np.eye(4, dtype=np.float32)[LABELS])) == []
    labels = torch.tensor([2, 3])
    tied = replace(
        by_hand, answers=by_hand.answers[[5, 3]], images=replace(images_of(2), labels=labels)
    )
    names = by_hand.classes
    assert confused_pairs(tied) == [(names[0], names[3]), (names[1], names[2])]
