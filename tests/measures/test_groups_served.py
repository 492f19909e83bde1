"""Accuracy of groups, the worst of them and the gap, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from harness.base.errors import InputError, NotApplicableError
from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures import (
    class_difference,
    group_accuracy,
    group_difference,
    group_gap,
    worst_group,
)
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


def test_accuracy_of_groups_of_the_worst_and_the_gap(served):
    found = group_accuracy(served, by="camera", group="rear")
    assert (found.metric.name, found.value, found.n) == ("group_accuracy", 0.25, 4)
    assert found.interval == pytest.approx(wilson(1, 4))
    assert sorted(found.failures.tolist()) == [5, 6, 7]
    assert found.each.tolist() == RIGHT[4:8]
    assert found.detail == "top confusion cat→dog 75% of 4"
    found = worst_group(served, by="camera")
    assert (found.value, found.n, found.counted) == (0.25, 10, 4)
    assert found.interval == pytest.approx(wilson(1, 4))
    assert found.detail == "worst of 3 groups by camera: rear, 4 images"
    assert sorted(found.failures.tolist()) == [5, 6, 7]
    found = group_gap(served, by="camera")
    assert (found.value, found.n) == (0.75, 10)
    assert found.detail == "side 100.0% of 2, rear 25.0% of 4 images"
    (low, _), (lower, upper) = wilson(2, 2), wilson(1, 4)
    assert found.interval == pytest.approx(
        (max(0.75 - math.hypot(1 - low, upper - 0.25), 0), 0.75 + (0.25 - lower))
    )
    assert group_gap(served, by="camera", least=3).value == 0.5
    assert worst_group(served, by="camera", least=3).n == 8
    with pytest.raises(InputError, match="groups by 'batch': the data have camera, site; name one"):
        group_accuracy(served, by="batch", group="7")
    with pytest.raises(
        NotApplicableError, match="none of the 10 measured images is of group 'top' by 'camera'"
    ):
        group_accuracy(served, by="camera", group="top")


@pytest.mark.parametrize("measure", [worst_group, group_gap])
def test_one_group_has_nothing_to_be_held_against(served, measure):
    with pytest.raises(
        NotApplicableError,
        match="by 'site' the measured images have 1 groups, expected at least two",
    ):
        measure(served, by="site")
    with pytest.raises(NotApplicableError, match="have 0 groups of at least 5 images"):
        measure(served, by="camera", least=5)


def sure_of(label_probabilities, *, labels=None, **columns):
    """Return predictions with this probability of each label, and these columns of groups."""
    sure = np.asarray(label_probabilities, dtype=np.float64)
    labels = np.zeros(len(sure), dtype=np.int64) if labels is None else np.asarray(labels)
    images = LabelledImages(
        torch.zeros((len(sure), 1, 2, 2), dtype=torch.uint8),
        torch.from_numpy(labels),
        ("cat", "dog"),
        "hand",
        "test",
        groups={name: np.array(values) for name, values in columns.items()},
    )
    answers = np.log(
        np.where(labels[:, None] == np.arange(2), sure[:, None], 1 - sure[:, None])
    ).astype(np.float32)
    return Predictions(answers, images, IDENTITY)


VENDORS, SCENES = list("abcabca"), list("xxxyyyz")
SURE = [0.9, 0.8, 0.7, 0.4, 0.6, 0.2, 0.1]


def test_a_group_is_compared_with_all_other_images_or_those_of_its_pair():
    """Scene z has no other vendor, so its image counts on no side."""
    found = group_difference(sure_of(SURE, vendor=VENDORS), by="vendor", group="a")
    own, others = [0.9, 0.4, 0.1], [0.8, 0.7, 0.6, 0.2]
    assert found.value == pytest.approx(np.mean(own) - np.mean(others))
    assert (found.metric.name, found.n) == ("group_difference", 3)
    assert found.each.mean() == pytest.approx(found.value)
    margin = 1.96 * math.sqrt(np.var(own, ddof=1) / 3 + np.var(others, ddof=1) / 4)
    assert found.interval == pytest.approx((found.value - margin, found.value + margin))
    assert found.detail == "a 46.7% of 3, others 57.5% of 4 images"
    assert found.failures.tolist() == [6, 3], "the wrong ones of the group, the surest first"
    found = class_difference(sure_of(SURE, labels=[0, 1, 1, 0, 1, 1, 0]), of_class="cat")
    assert (
        found.value == group_difference(sure_of(SURE, vendor=VENDORS), by="vendor", group="a").value
    )
    assert (found.metric.name, found.n) == ("class_difference", 3)
    found = group_difference(
        sure_of(SURE, vendor=VENDORS, scene=SCENES), by="vendor", group="a", paired_by="scene"
    )
    assert found.each == pytest.approx([0.9 - 0.75, 0.4 - 0.4], abs=1e-6)
    assert (found.value, found.n) == (pytest.approx(0.075, abs=1e-6), 2)
    assert found.detail == "a 65.0%, others 57.5% of 2 pairs"
    assert found.failures.tolist() == [3]
    one = group_difference(sure_of(SURE[:3], vendor=VENDORS[:3]), by="vendor", group="a")
    assert one.interval == (-1, 1), "one image says nothing of the spread"


@pytest.mark.parametrize("pair", [None, "pair"])
@pytest.mark.parametrize("seed", [0])
def test_differences_have_these_properties(seed, pair):
    """Equal confidence gives 0, and a group and its complement are opposite.

    The order does not matter.
    """
    rng = np.random.default_rng(seed)
    sure, pairs = rng.uniform(0.05, 0.95, 40), np.repeat(np.arange(20), 2).astype(str)
    groups = np.tile(["a", "b"], 20)

    def difference(sure, groups, pairs, group="a"):
        return group_difference(
            sure_of(sure, by=groups, pair=pairs), by="by", group=group, paired_by=pair
        ).value

    value = difference(sure, groups, pairs)
    assert -1 <= value <= 1
    assert difference(sure, groups, pairs, "b") == pytest.approx(-value)
    assert difference(np.full(40, 0.3), groups, pairs) == pytest.approx(0, abs=1e-6)
    order = rng.permutation(40)
    assert difference(sure[order], groups[order], pairs[order]) == pytest.approx(value)
    worse = np.where(groups == "a", sure * 0.9, sure)
    assert difference(worse, groups, pairs) < value


def test_the_contributions_have_the_variance_of_both_sides():
    """By chance alone, the mean of both sides varies as the sum over the contributions says.

    The sizes differ.
    """
    rng = np.random.default_rng(0)
    groups, right = np.array(["a"] * 30 + ["b"] * 77), rng.uniform(0.2, 0.8, 107)
    drawn = [
        group_difference(
            sure_of(np.clip(rng.normal(right, 0.1), 0.01, 0.99), by=groups), by="by", group="a"
        )
        for _ in range(300)
    ]
    by_chance = np.var([each.each for each in drawn], axis=0, ddof=1).sum() / 30**2
    assert by_chance == pytest.approx(np.var([each.value for each in drawn], ddof=1), rel=0.25)


def test_a_difference_without_another_side_is_not_applicable(served):
    with pytest.raises(
        NotApplicableError, match="all 10 images are of 'Bonn', so there are no others"
    ):
        group_difference(served, by="site", group="Bonn")
    with pytest.raises(
        NotApplicableError, match="none of the 10 measured images is of group 'top' by 'camera'"
    ):
        group_difference(served, by="camera", group="top")
    with pytest.raises(
        NotApplicableError, match="no image of group 'rear' has another one of its pair outside"
    ):
        group_difference(served, by="camera", group="rear", paired_by="camera")
    with pytest.raises(InputError, match="groups by 'batch': the data have camera, site; name one"):
        group_difference(served, by="camera", group="rear", paired_by="batch")
    with pytest.raises(InputError, match="unknown class 'cow'"):
        class_difference(served, of_class="cow")
    with pytest.raises(NotApplicableError, match="all 10 images are of 'cat'"):
        class_difference(served, of_class="cat")
    with pytest.raises(NotApplicableError, match="none of the 10 images is of class 'dog'"):
        class_difference(served, of_class="dog")
    with pytest.raises(NotApplicableError, match="the predictor returns labels only"):
        group_difference(replace(served, known=0), by="camera", group="rear")
