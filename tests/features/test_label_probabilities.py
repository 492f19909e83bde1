"""Label probabilities.

Against scikit-learn and by hand, and networks that learned less of an augmentation.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss as log_loss_of_sklearn
from torch import nn
from zoo import CLEAN as CLEAN_ROW
from zoo import images_of, role_model

from harness.base.errors import InputError
from harness.features.label_probability.measures import (
    label_probability,
    label_probability_change,
    log_loss,
    log_loss_change,
)
from harness.inference import Predictions
from harness.perturb import IDENTITY, HorizontalFlip

TESTS = ("clean", "label_probability")


def drawn(images, *, seed):
    """Return predictions that favor the label, with random logits."""
    rng = np.random.default_rng(seed)
    labels = images.labels.numpy()
    logits = rng.normal(0, 2, (len(labels), 4)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += 1.5
    return Predictions(logits, images, IDENTITY)


CLEAN = drawn(images_of(200), seed=0)


def seen_as(logits):
    return Predictions(logits.astype(np.float32), CLEAN.images, HorizontalFlip())


@pytest.fixture
def flipped():
    noise = np.random.default_rng(1).normal(0, 1, CLEAN.logits.shape)
    return seen_as(CLEAN.logits + noise)


def test_the_log_loss_is_that_of_sklearn(flipped):
    logits = flipped.logits.astype(float)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = log_loss_of_sklearn(CLEAN.labels, probabilities, labels=range(4))
    measured = log_loss(flipped, clean=CLEAN)
    assert measured.value == pytest.approx(expected, rel=1e-6)
    of_label = probabilities[np.arange(len(probabilities)), CLEAN.labels]
    assert label_probability(flipped).value == pytest.approx(of_label.mean(), rel=1e-6)


def test_changes_are_differences_of_the_views(flipped):
    change = label_probability_change(CLEAN, flipped)
    assert change.value == pytest.approx(
        label_probability(flipped).value - label_probability(CLEAN).value
    )
    rise = log_loss_change(CLEAN, flipped)
    clean_loss = log_loss(CLEAN, clean=CLEAN).value
    assert rise.value == pytest.approx(log_loss(flipped, clean=CLEAN).value - clean_loss)
    assert change.interval[0] < change.value < change.interval[1]
    assert rise.interval[0] < rise.value < rise.interval[1]


def test_the_images_that_lose_most_come_first(flipped):
    change = label_probability_change(CLEAN, flipped)
    assert list(np.diff(change.each[change.failures]) >= 0) == [True] * (len(change.failures) - 1)
    assert (change.each[change.failures] < 0).all()
    assert list(label_probability(flipped, clean=CLEAN).failures) == list(change.failures)


def test_equal_views_change_nothing():
    same = seen_as(CLEAN.logits)
    assert label_probability_change(CLEAN, same).value == 0
    assert log_loss_change(CLEAN, same).value == 0
    assert len(label_probability_change(CLEAN, same).failures) == 0


def test_views_of_other_images_are_refused(flipped):
    with pytest.raises(InputError, match="change of the label's probability"):
        label_probability_change(drawn(images_of(100), seed=2), flipped)


class BlindToFlips(nn.Module):
    """Gives the correct class, with half of the confidence for images that are flipped."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        left, right = pixels[..., :8].mean(dim=(1, 2, 3)), pixels[..., 8:].mean(dim=(1, 2, 3))
        scale = torch.where(left > right, 6.0, 1.0)
        return (
            torch.nn.functional.one_hot(torch.zeros(len(pixels), dtype=torch.long), 4)
            * scale[:, None]
        )


def test_doubts_about_flipped_images_are_a_gap_at_equal_accuracy():
    images = images_of(80)
    left_lit = images.pixels.clone()
    left_lit[..., :8] = 200
    left_lit[..., 8:] = 50
    of_one_class = replace(images, pixels=left_lit, labels=torch.zeros_like(images.labels))
    model = role_model(model=BlindToFlips())
    clean, mirrored = model.predict(of_one_class), model.predict(of_one_class, HorizontalFlip())
    assert (clean.predicted == mirrored.predicted).all()
    sure, unsure = (np.exp(logit) / (np.exp(logit) + 3) for logit in (6.0, 1.0))
    assert label_probability_change(clean, mirrored).value == pytest.approx(unsure - sure, abs=1e-6)


ROWS = """
[[check]]
id = "label-probability-flip"
family = "label_probability"
metric = "label_probability"
view = ["mirrored"]
hand = { threshold = 0.5, reason = "a test" }

[[check]]
id = "label-probability-change-ccw-010"
family = "augmentation_gap"
metric = "label_probability_change"
pose = { degrees = 10 }
hand = { threshold = -0.01, reason = "a test" }

[[check]]
id = "log-loss-change-flip"
family = "augmentation_gap"
metric = "log_loss_change"
view = ["mirrored"]
hand = { threshold = 100, reason = "a test" }
"""


def test_a_run_judges_each_view_by_its_row(shared):
    ran = shared.once("--baseline=none", rows=CLEAN_ROW + ROWS)
    # The zoo's network never learned a rotation, or a flip.
    assert ran.statuses["label-probability-change-ccw-010"] == "fail", ran.why
    assert ran.statuses["log-loss-change-flip"] == "pass"
    values = {name: check["value"] for name, check in ran.checks.items()}
    assert values["label-probability-change-ccw-010"] < -0.01
    assert values["log-loss-change-flip"] > 0
    assert ran.ret == 1
