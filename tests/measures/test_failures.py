"""Failure tables against hand-made answers, brute force and scikit-learn.

They hold for any pair of models.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report as sklearn_report
from test_measures import CLASSES, images_with, predictions

from harness.base.errors import InputError
from harness.inference import Predictions
from harness.measures.accuracy import accuracy, classification_report
from harness.measures.failures import (
    ANY,
    STUDY_KINDS,
    FailureKind,
    answers_at,
    confident,
    confusion,
    failure_changes,
    failure_table,
    kinds_for,
)
from harness.measures.worst_poses import persistent_failures
from harness.perturb import IDENTITY, HorizontalFlip, Pose


@dataclass(frozen=True)
class Inverted:
    """A user's own perturbation."""

    def __call__(self, images):
        return 1 - images


#             0  1  2  3  4  5  6  7
LABELS = [0, 0, 0, 1, 1, 1, 2, 2]
PREDICTED = [0, 1, 1, 1, 0, 2, 0, 2]
CONFIDENCE = [0.9, 0.6, 0.95, 0.7, 0.8, 0.92, 0.5, 0.4]
"""Errors: cats 1 and 2 predicted as dogs, dog 4 as a cat, dog 5 as a fox, fox 6 as a cat."""


@pytest.fixture
def by_hand() -> Predictions:
    return predictions(LABELS, PREDICTED, CONFIDENCE)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        pytest.param(ANY, [2, 5, 4, 1, 6], id="any"),
        pytest.param(confident(0.9), [2, 5], id="confident"),
        pytest.param(confusion("cat", "dog"), [2, 4, 1], id="pair"),
        pytest.param(confusion("dog", "cat"), [2, 4, 1], id="pair-either-way-round"),
        pytest.param(FailureKind("both", ("cat", "dog"), 0.7), [2, 4], id="pair-and-confidence"),
        pytest.param(confident(0.99), [], id="none"),
    ],
)
def test_a_table_holds_its_kind_the_most_confident_first(by_hand, kind, rows):
    table = failure_table(by_hand, kind)
    assert [row.index for row in table.rows] == rows
    assert (table.kind, table.n, table.classes, table.absent) == (kind.name, 8, CLASSES, ())


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (IDENTITY, "clean"),
        (Pose(7.5, dx=-2), "rotated by 7.5° counter-clockwise, shifted 2 px left"),
        (HorizontalFlip(), "flipped left to right"),
        (Inverted(), "Inverted()"),
    ],
    ids=["clean", "pose", "mirrored", "without-words"],
)
def test_a_table_says_how_the_images_were_seen(pose, words):
    assert failure_table(predictions(LABELS, PREDICTED, pose=pose)).seen == words


def test_tables_show_exact_answers_and_ask_for_no_more_than_they_show():
    asked = []

    def exact(positions):
        asked.append(positions.tolist())
        return np.log(np.full((len(positions), 3), 1 / 3, dtype=np.float32))

    given_answers = predictions([0, 0], [0, 1], exact=exact)
    assert accuracy(given_answers).failures.tolist() == [1]
    assert not asked, "which are shown first is decided by what was answered"
    assert failure_table(given_answers).rows[0].confidence == pytest.approx(1 / 3)
    (right,) = answers_at(given_answers, np.array([0]))
    assert right.confidence == pytest.approx(1 / 3)
    assert asked == [[1], [0, 1]]
    seen = predictions([0, 0, 1], [1, 0, 0])
    assert failure_table(seen, confusion("cat", "fox")).absent == ("fox",)
    assert failure_table(seen, confusion("cat", "dog")).absent == ()


def test_the_study_looks_at_six_kinds_and_others_at_frequent_pairs():
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    taken_for = {6: 0, 4: 2, 5: 7, 3: 4, 9: 7, 0: 0, 1: 1, 2: 4, 7: 9, 8: 1}
    labels, predicted = list(taken_for), list(taken_for.values())
    seen = predictions(
        labels, predicted, [0.95 if label == 8 else 0.5 for label in labels], classes=classes
    )
    rows = {
        kind.name: [row.index for row in failure_table(seen, kind).rows] for kind in STUDY_KINDS
    }
    assert rows == {
        "errors over 90% confidence": [9],
        "Shirt↔T-shirt/top": [0],
        "Coat↔Pullover": [1, 7],
        "Sandal↔Sneaker": [2],
        "Dress↔Coat": [3],
        "Ankle boot↔Sneaker": [4, 8],
    }
    seen = predictions([0, 1, 2, 2, 1, 0], [1, 0, 1, 1, 2, 0])
    assert [kind.name for kind in kinds_for(seen)] == [
        "any error",
        "errors over 90% confidence",
        "dog↔fox",
        "cat↔dog",
    ]
    assert [kind.name for kind in kinds_for(predictions([0], [0]))] == [
        "any error",
        "errors over 90% confidence",
    ]


def test_new_fixed_and_shared_failures_show_both_models_answers():
    after = predictions([0, 0, 1, 1, 2], [1, 1, 1, 1, 0], [0.5, 0.9, 0.8, 0.8, 0.6], pose=Pose(5))
    before = predictions([0, 0, 1, 1, 2], [0, 0, 0, 2, 1], [0.7, 0.7, 0.5, 0.9, 0.95], pose=Pose(5))
    changes = failure_changes(after, before)
    assert [row.candidate.index for row in changes["new"]] == [1, 0]
    assert [row.candidate.index for row in changes["fixed"]] == [3, 2], (
        "the most confident of the model before first"
    )
    (both,) = changes["shared"]
    assert (both.candidate.index, both.candidate.predicted, both.other.predicted) == (
        4,
        "cat",
        "dog",
    )


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_new_fixed_and_shared_are_disjoint_and_complete(rows):
    labels, after, before = (list(column) for column in zip(*rows, strict=True))
    changes = failure_changes(predictions(labels, after), predictions(labels, before))
    found = [{row.candidate.index for row in part} for part in changes.values()]
    wrong_after = {at for at, (label, taken, _) in enumerate(rows) if label != taken}
    wrong_before = {at for at, (label, _, taken) in enumerate(rows) if label != taken}
    assert found == [
        wrong_after - wrong_before,
        wrong_before - wrong_after,
        wrong_after & wrong_before,
    ]


def test_persistent_failures_stand_by_wrong_poses_confidence_or_confusion():
    predicted = np.array([[0, 0, 0, 0], [1, 0, 2, 1], [0, 0, 0, 2], [1, 1, 2, 2], [2, 0, 1, 1]])
    table = persistent_failures(images_with([0, 0, 1, 2, 2], numbers=[5, 6, 7, 8, 9]), predicted)
    assert [asdict(row) for row in table.rows] == [
        {"index": 7, "true": "dog", "wrong_at": 4, "taken_for": "cat", "confidence": None},
        {"index": 6, "true": "cat", "wrong_at": 3, "taken_for": "dog", "confidence": None},
        {"index": 9, "true": "fox", "wrong_at": 3, "taken_for": "dog", "confidence": None},
    ]
    assert (table.n, table.poses) == (5, 4)
    predicted = np.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    confidence = np.array([[0.9, 0.7, 0.0], [0.5, 0.6, 0.7], [0.0, 0.0, 0.0]])
    table = persistent_failures(images_with([0, 0, 0], numbers=[5, 6, 7]), predicted, confidence)
    assert [(row.index, row.wrong_at) for row in table.rows] == [(6, 3), (5, 2)]
    assert [(row.index, row.confidence) for row in table.by_confidence()] == [
        (5, pytest.approx(0.8)),
        (6, pytest.approx(0.6)),
    ]
    table = persistent_failures(
        images_with([0, 1, 1], numbers=[5, 6, 7]), np.array([[2], [0], [0]])
    )
    assert table.by_confusion() == [("dog", "cat", (6, 7)), ("cat", "fox", (5,))]


def test_scores_are_scikit_learns_and_what_is_undefined_stays_so(by_hand):
    report = classification_report(by_hand)
    oracle = sklearn_report(LABELS, PREDICTED, target_names=CLASSES, output_dict=True)
    for scores in report.classes:
        assert asdict(scores) == {
            "name": scores.name,
            "precision": pytest.approx(oracle[scores.name]["precision"]),
            "recall": pytest.approx(oracle[scores.name]["recall"]),
            "f1": pytest.approx(oracle[scores.name]["f1-score"]),
            "support": oracle[scores.name]["support"],
        }
    assert report.macro.f1 == pytest.approx(oracle["macro avg"]["f1-score"])
    assert report.weighted.precision == pytest.approx(oracle["weighted avg"]["precision"])
    assert (report.accuracy, report.n, report.macro.support) == (3 / 8, 8, 8)
    assert report.absent == report.never_predicted == ()
    report = classification_report(predictions([0, 0, 1], [0, 0, 0]))
    cat, dog, fox = report.classes
    assert (dog.precision, dog.recall, dog.f1, dog.support) == (None, 0.0, 0.0, 1)
    assert (fox.precision, fox.recall, fox.f1, fox.support) == (None, None, None, 0)
    assert (report.absent, report.never_predicted) == (("fox",), ("dog", "fox"))
    assert report.macro.precision == pytest.approx(2 / 3), "of the one class that was predicted"
    assert report.macro.recall == pytest.approx(0.5), "of the two classes that are there"
    assert cat.precision == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="no images"):
        classification_report(predictions([], []))
