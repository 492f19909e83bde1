"""Measures by hand, by scikit-learn, and by published formulas of their intervals."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, recall_score

from harness.base.errors import InputError
from harness.data import LabelledImages
from harness.inference import Predictions
from harness.measures import (
    Metric,
    Unit,
    accuracy,
    accuracy_change,
    accuracy_gain,
    confident_errors,
    object_dependence,
    pair_failures,
    prediction_consistency,
)
from harness.measures.confidence import confidence_rise
from harness.measures.failures import confusion, failure_changes, failure_table
from harness.measures.flips import flips
from harness.measures.relations import invariance, monotonicity, symmetry
from harness.perturb import IDENTITY

CLASSES = ("cat", "dog", "fox")
Z = NormalDist().inv_cdf(0.975)


def images_with(labels, *, numbers=None, classes=CLASSES, seed: int = 0) -> LabelledImages:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 1, 2, 2)).astype(np.uint8)
    indices, labels = (
        None if numbers is None else torch.tensor(numbers),
        torch.tensor(labels, dtype=torch.int64),
    )
    return LabelledImages(torch.from_numpy(pixels), labels, classes, "hand", "test", indices)


def predictions(
    labels, predicted, confidence=None, *, pose=IDENTITY, exact=None, **facts
) -> Predictions:
    """Predictions that give each image this class with this confidence.

    The default is 0.8; the other classes share the difference.
    """
    images = images_with(labels, **facts)
    count = len(images.classes)
    confidence = (
        np.full(len(labels), 0.8) if confidence is None else np.asarray(confidence, dtype=float)
    )
    shares = np.repeat((1 - confidence)[:, None] / (count - 1), count, axis=1)
    shares[np.arange(len(labels)), predicted] = confidence
    with np.errstate(divide="ignore"):
        logits = np.log(shares).clip(min=-1000).astype(np.float32)
    return Predictions(logits, images, pose, exact=exact)


def wilson(count: int, n: int) -> tuple[float, float]:
    """Wilson's score interval (Wilson 1927), written down independently."""
    share = count / n
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half


#             0  1  2  3  4  5  6  7  8  9
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
PREDICTED = [0, 0, 1, 1, 1, 0, 1, 2, 0, 2]
CONFIDENCE = [0.9, 0.5, 0.6, 0.95, 0.7, 0.8, 0.9, 0.99, 0.7, 0.4]


@pytest.fixture
def by_hand() -> Predictions:
    """Ten images, four of them wrong.

    Cats 2 and 3 are predicted as dogs, dog 5 and fox 8 as cats.
    """
    return predictions(LABELS, PREDICTED, CONFIDENCE)


def test_accuracy_is_the_share_of_right_predictions(by_hand):
    measured = accuracy(by_hand)
    assert (measured.metric.name, measured.unit.value, measured.value, measured.n) == (
        "accuracy",
        "share",
        0.6,
        10,
    )
    assert measured.interval == pytest.approx(wilson(6, 10), abs=1e-12)
    assert measured.detail == "top confusion cat→dog 50% of 4"


@pytest.mark.parametrize(
    ("name", "value", "n", "failures"),
    [("cat", 0.5, 4, [3, 2]), ("dog", 2 / 3, 3, [5]), ("fox", 2 / 3, 3, [8])],
    ids=CLASSES,
)
def test_accuracy_of_a_class_is_its_recall(by_hand, name, value, n, failures):
    measured = accuracy(by_hand, of_class=name)
    assert (measured.value, measured.n) == (value, n)
    assert measured.failures.tolist() == failures
    assert measured.interval == pytest.approx(wilson(round(value * n), n), abs=1e-12)
    recall = recall_score(LABELS, PREDICTED, labels=[CLASSES.index(name)], average=None)
    assert measured.value == pytest.approx(recall[0], abs=1e-15)


@pytest.mark.parametrize(
    ("pair", "value", "failures", "detail"),
    [
        (("cat", "dog"), 3, [3, 5, 2], "cat→dog 2, dog→cat 1"),
        (("dog", "cat"), 3, [3, 5, 2], "dog→cat 1, cat→dog 2"),
        (("cat", "fox"), 1, [8], "cat→fox 0, fox→cat 1"),
        (("dog", "fox"), 0, [], "dog→fox 0, fox→dog 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_pair_failures_count_both_ways_and_nothing_else(by_hand, pair, value, failures, detail):
    measured = pair_failures(by_hand, pair=pair)
    assert (measured.metric.name, measured.unit.value) == ("pair_failures", "images")
    assert (measured.value, measured.n) == (value, 10)
    assert measured.failures.tolist() == failures
    assert measured.detail == detail
    assert measured.interval == pytest.approx([10 * end for end in wilson(value, 10)], abs=1e-12)


@pytest.mark.parametrize(
    ("above", "failures"),
    [(0.0, [3, 5, 8, 2]), (0.65, [3, 5, 8]), (0.75, [3, 5]), (0.9, [3]), (0.96, [])],
    ids="above-{}".format,
)
def test_confident_errors_count_wrong_answers_over_the_confidence(by_hand, above, failures):
    measured = confident_errors(by_hand, above=above)
    assert (measured.metric.name, measured.unit.value, measured.value) == (
        "confident_errors",
        "images",
        len(failures),
    )
    assert measured.n == 10
    assert measured.failures.tolist() == failures
    assert measured.interval == pytest.approx(
        [10 * end for end in wilson(len(failures), 10)], abs=1e-12
    )


@pytest.mark.parametrize(
    ("logits", "above", "count"),
    [
        ([0.0, 0.0], 0.5, 0),
        ([0.0, 0.0], 0.4999, 1),
        ([1000.0, 0.0], 1.0, 0),
        ([1000.0, 0.0], 0.9999, 1),
    ],
    ids=["at-a-half", "over-a-half", "at-one", "over-nearly-one"],
)
def test_a_confidence_at_the_threshold_is_not_over_it(logits, above, count):
    wrong = Predictions(
        np.array([logits], dtype=np.float32), images_with([1], classes=("a", "b")), IDENTITY
    )
    assert confident_errors(wrong, above=above).value == count


def test_accuracy_gain_is_the_difference_of_the_accuracies(by_hand):
    reference = predictions(LABELS, [0, 1, 1, 1, 0, 0, 0, 2, 2, 2])
    measured = accuracy_gain(by_hand, reference)
    assert (measured.metric.name, measured.unit.value, measured.n) == (
        "accuracy_gain",
        "difference",
        10,
    )
    assert measured.value == pytest.approx(0.6 - 0.4, abs=1e-15)
    assert measured.detail == "3 images gained, 1 lost"
    assert measured.failures.tolist() == [8], "the images lost"
    # Newcombe 1998, method 1 for paired data: e = 3, f = 1, n = 10.
    half = Z * math.sqrt(3 + 1 - (3 - 1) ** 2 / 10) / 10
    assert measured.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    measured = accuracy_gain(by_hand, by_hand)
    assert (measured.value, measured.interval, measured.failures.tolist()) == (0.0, (0.0, 0.0), [])


COMPARED = {
    "accuracy_gain": accuracy_gain,
    "accuracy_change": accuracy_change,
    "flips": flips,
    "failure_changes": failure_changes,
    "confidence_rise": lambda one, other: confidence_rise([one, other]),
    "invariance": invariance,
    "monotonicity": lambda one, other: monotonicity([one, other]),
    "symmetry": symmetry,
    "prediction_consistency": prediction_consistency,
    "object_dependence": object_dependence,
}
OTHERS = {
    "pixels": predictions(LABELS, PREDICTED, seed=1),
    "labels": predictions([1, *LABELS[1:]], PREDICTED),
    "fewer": predictions(LABELS[:9], PREDICTED[:9]),
}


@pytest.mark.parametrize("compare", COMPARED)
def test_predictions_of_other_images_cannot_be_compared(by_hand, compare):
    """The first ones compare pixels, too.

    The others compare images that a perturbation or a change made others.
    """
    alike = list(COMPARED).index(compare) < list(COMPARED).index("confidence_rise")
    for name in OTHERS if alike else ["fewer"]:
        with pytest.raises(
            InputError, match=r"images that are not the same, .*; use the same images for both"
        ):
            COMPARED[compare](by_hand, OTHERS[name])


def test_classes_that_are_not_there_are_refused(by_hand):
    for measure in (
        lambda: accuracy(by_hand, of_class="cow"),
        lambda: pair_failures(by_hand, pair=("cat", "cow")),
        lambda: failure_table(by_hand, confusion("cat", "cow")),
    ):
        with pytest.raises(InputError, match="unknown class 'cow'; the data have cat, dog, fox"):
            measure()
    cats = predictions([0, 0, 0, 0], [0, 1, 2, 0])
    for measure in (
        lambda: accuracy(cats, of_class="fox"),
        lambda: pair_failures(cats, pair=("cat", "fox")),
    ):
        with pytest.raises(InputError, match=r"none of the 4 images is of class.*'fox'"):
            measure()
    with pytest.raises(InputError, match="cat"):
        pair_failures(by_hand, pair=("cat", "cat"))


DECLARED = Metric("torn", Unit.DEGREES, better="less", words="torn between two")


@pytest.mark.parametrize(
    ("declared", "changes", "is_one"),
    [
        (DECLARED, {}, True),
        (DECLARED, {"unit": Unit.PIXELS, "range": (0.0, 3.0), "words": "torn when mirrored"}, True),
        (DECLARED, {"words": ""}, False),
        (replace(DECLARED, words=""), {"words": "mine"}, False),
        (DECLARED, {"better": "more"}, False),
        (DECLARED, {"scale": "root"}, False),
        (DECLARED, {"name": "tearing"}, False),
    ],
    ids=[
        "itself",
        "its-case",
        "without-words",
        "with-words",
        "other-way",
        "other-scale",
        "other-name",
    ],
)
def test_a_case_of_a_metric_has_its_own_unit_range_and_words_alone(declared, changes, is_one):
    assert replace(declared, **changes).is_case_of(declared) == is_one


@st.composite
def any_predictions(draw: st.DrawFn) -> Predictions:
    n = draw(st.integers(1, 30))
    labels, predicted = (
        draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)) for _ in range(2)
    )
    confidence = [
        share / 100 for share in draw(st.lists(st.integers(34, 100), min_size=n, max_size=n))
    ]
    return predictions(labels, predicted, confidence)


@settings(deadline=None, max_examples=15)
@given(any_predictions())
def test_recalls_agree_with_scikit_learn_and_average_to_the_accuracy(drawn):
    present = sorted(set(drawn.labels.tolist()))
    recalls = [accuracy(drawn, of_class=CLASSES[label]) for label in present]
    expected = recall_score(drawn.labels, drawn.predicted, labels=present, average=None)
    assert [recall.value for recall in recalls] == pytest.approx(expected)
    assert sum(recall.value * recall.n for recall in recalls) == pytest.approx(
        accuracy(drawn).value * len(drawn.labels)
    )


@settings(deadline=None, max_examples=15)
@given(any_predictions(), st.permutations(range(3)))
def test_pair_failures_are_symmetric_and_agree_with_the_confusion_matrix(drawn, order):
    first, second = order[:2]
    counts = np.bincount(drawn.labels, minlength=3)
    assume(counts[first] > 0 < counts[second])
    one, other = (
        pair_failures(drawn, pair=(CLASSES[a], CLASSES[b]))
        for a, b in ((first, second), (second, first))
    )
    matrix = confusion_matrix(drawn.labels, drawn.predicted, labels=[0, 1, 2])
    assert one.value == other.value == matrix[first, second] + matrix[second, first]
    assert one.failures.tolist() == other.failures.tolist()
    assert 0 <= one.interval[0] <= one.value <= one.interval[1] <= one.n
