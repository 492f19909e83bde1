"""Loss by another serving pipeline: a share that changes, a net loss, and their bounds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from zoo import CLASSES

from harness.checks import Check, Threshold
from harness.data import LabelledImages
from harness.features.skew.measures import (
    served_correct_predictions_lost,
    served_predictions_changed,
)
from harness.inference import Predictions
from harness.perturb import IDENTITY

LABELS = np.arange(1000) % 4
IMAGES = LabelledImages(
    torch.zeros((1000, 1, 2, 2), dtype=torch.uint8), torch.from_numpy(LABELS), CLASSES, "z", "test"
)


def predictions(wrong) -> Predictions:
    """Return predictions that are one class too high on these images."""
    answers = LABELS.copy()
    answers[wrong] = (answers[wrong] + 1) % 4
    return Predictions(np.eye(4, dtype=np.float32)[answers], IMAGES, IDENTITY)


REFERENCE, SERVED = predictions(np.arange(50)), predictions(np.arange(30, 90))


def test_what_serving_loses_is_net_of_what_it_gains():
    lost = served_correct_predictions_lost(SERVED, REFERENCE, through="OpenCV bilinear")
    assert lost.value == pytest.approx(0.01)
    assert lost.each.mean() == pytest.approx(lost.value)
    assert lost.detail == (
        "served with OpenCV bilinear, it would lose 1.0 points and change 7.0% of its predictions "
        "(40 lost, 30 gained)"
    )
    assert lost.failures[:40].tolist() == [*range(50, 90)], "the lost ones first"
    changed = served_predictions_changed(SERVED, REFERENCE)
    assert changed.value == pytest.approx(0.07)
    assert changed.interval[0] < 0.07 < changed.interval[1]
    measured = served_correct_predictions_lost(predictions(np.arange(40)), predictions([]))
    panel = Threshold(0.05, mean=0.04, std=0.003, reference_models=20)
    assert check(tolerance=0.01).judge(measured).status == "fail"
    assert check(tolerance=0.1).judge(measured).status == "pass"
    assert check(tolerance=0.04).judge(measured).status == "inconclusive"
    assert check(tolerance=0.02, panel=panel).judge(measured).status == "pass"
    assert (
        check(tolerance=0.01, panel=panel, informational="they differ").judge(measured).status
        == "fail"
    )


def test_exact_logits_are_asked_of_all_images_or_of_the_wrong_ones():
    """The cache keeps a file for each of these two, and none for another selection."""
    asked = []

    def exact(positions):
        asked.append(positions)
        return REFERENCE.answers[positions]

    served_predictions_changed(SERVED, replace(REFERENCE, exact=exact))
    assert asked
    for positions in asked:
        assert len(positions) == len(LABELS) or positions.tolist() == list(range(50))


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (REFERENCE, "lose no accuracy and change 0.0%"),
        (predictions([]), "gain 5.0 points and change 5.0%"),
    ],
)
def test_no_loss_and_a_gain_are_said_so(served, said):
    assert said in served_correct_predictions_lost(served, REFERENCE).detail


def check(**thresholds) -> Check:
    return Check(
        "skew-x", "skew", "served_correct_predictions_lost", keys={"skew": "jpeg-75"}, **thresholds
    )
