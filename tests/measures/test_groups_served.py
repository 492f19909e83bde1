"""Accuracy of groups, the worst of them and the gap, by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures import METRICS, group_accuracy, group_gap, worst_group
from harness.perturb import IDENTITY

#        front: 3 of 4 right, rear: 1 of 4, side: 2 of 2
CAMERAS = ["front"] * 4 + ["rear"] * 4 + ["side"] * 2
RIGHT = [True, True, True, False, True, False, False, False, True, True]


@pytest.fixture
def served():
    labels = np.zeros(10, dtype=np.int64)
    images = LabelledImages(
        torch.zeros((10, 1, 2, 2), dtype=torch.uint8),
        torch.from_numpy(labels),
        ("cat", "dog"),
        "hand",
        "test",
        groups={"camera": np.array(CAMERAS), "site": np.array(["Bonn"] * 10)},
    )
    logits = np.where(np.array(RIGHT)[:, None], [2.0, 0.0], [0.0, 2.0]).astype(np.float32)
    return Predictions(logits, images, IDENTITY)


def wilson(right, n):
    interval = binomtest(right, n).proportion_ci(method="wilson")
    return interval.low, interval.high


def test_a_groups_accuracy_is_that_of_its_images(served):
    found = group_accuracy(served, by="camera", group="rear")
    assert (found.metric.name, found.value, found.n) == ("group_accuracy", 0.25, 4)
    assert found.interval == pytest.approx(wilson(1, 4))
    assert sorted(found.failures.tolist()) == [5, 6, 7]
    assert found.each.tolist() == RIGHT[4:8]
    assert found.detail == "top confusion cat→dog 75% of 4"


def test_the_worst_group_is_named_with_its_images(served):
    found = worst_group(served, by="camera")
    assert (found.value, found.n, found.counted) == (0.25, 10, 4)
    assert found.interval == pytest.approx(wilson(1, 4))
    assert found.detail == "worst of 3 groups by camera: rear, 4 images"
    assert sorted(found.failures.tolist()) == [5, 6, 7]


def test_the_gap_is_between_the_best_and_the_worst(served):
    found = group_gap(served, by="camera")
    assert (found.value, found.n) == (0.75, 10)
    assert found.detail == "side 100.0% of 2, rear 25.0% of 4 images"
    (low, _), (lower, upper) = wilson(2, 2), wilson(1, 4)
    assert found.interval == pytest.approx((max(0.75 - math.hypot(1 - low, upper - 0.25), 0), 0.75 + (0.25 - lower)))


def test_groups_of_few_images_are_left_out_where_a_row_says_so(served):
    assert group_gap(served, by="camera", least=3).value == 0.5
    assert worst_group(served, by="camera", least=3).n == 8


@pytest.mark.parametrize("measure", [worst_group, group_gap])
def test_one_group_has_nothing_to_be_held_against(served, measure):
    with pytest.raises(NotApplicableError, match="by 'site' there are 1 groups at hand, and it takes two"):
        measure(served, by="site")
    with pytest.raises(NotApplicableError, match="there are 0 groups of at least 5 images"):
        measure(served, by="camera", least=5)


def test_what_there_is_no_group_of_is_told(served):
    with pytest.raises(InputError, match="groups by 'batch': the data have camera, site; name one"):
        group_accuracy(served, by="batch", group="7")
    with pytest.raises(NotApplicableError, match="none of the 10 images at hand is of group 'top' by 'camera'"):
        group_accuracy(served, by="camera", group="top")


def test_less_of_a_gap_is_better():
    assert METRICS["group_gap"].direction == "at_most"
    assert METRICS["group_gap"].range == (0, 1)
    assert METRICS["group_accuracy"].direction == METRICS["worst_group_accuracy"].direction == "at_least"
