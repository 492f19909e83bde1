"""Changes between two models.

By hand, against scipy's exact test, and for any pair of predictions.
"""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_measures import predictions as answers

from harness.base.records import as_json, read_json
from harness.checks import Check, ChecksError, Threshold, Verdict
from harness.inference import Predictions
from harness.measures import METRICS, Measurement, accuracy, accuracy_change
from harness.measures.flips import Flips, flips

#             0  1  2  3  4  5  6  7  8  9
LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
BEFORE = [0, 0, 0, 1, 1, 0, 1, 2, 2, 0]
AFTER = [1, 1, 0, 1, 1, 1, 2, 2, 2, 2]
"""Lost: cats 0 and 1, now predicted as dogs, and dog 6, now predicted as a fox.

Gained: dog 5 and fox 9, both predicted as cats before. Image 3 is wrong in the same way twice.
"""


@pytest.fixture
def by_hand() -> Flips:
    return flips(answers(LABELS, AFTER), answers(LABELS, BEFORE))


def test_flips_by_hand(by_hand):
    assert (by_hand.n, by_hand.lost.tolist(), by_hand.gained.tolist()) == (10, [0, 1, 6], [5, 9])
    assert by_hand.net == pytest.approx(-0.1, abs=1e-15)
    assert list(by_hand.by_pair.items()) == [
        ("cat→dog", (2, 0)),
        ("dog→cat", (0, 1)),
        ("dog→fox", (1, 0)),
        ("fox→cat", (0, 1)),
    ]
    half = 1.96 * math.sqrt(2 + 3 - (2 - 3) ** 2 / 10) / 10
    assert by_hand.interval == pytest.approx((-0.1 - half, -0.1 + half), abs=1e-12)
    entry = json.loads(json.dumps(by_hand.as_json(), allow_nan=False))
    assert entry["net"] == by_hand.net
    assert entry["interval"] == list(by_hand.interval)
    assert entry["mcnemar_p"] == by_hand.p_value == 1.0
    assert (entry["new_failures"], entry["fixed_failures"]) == ([0, 1, 6], [5, 9])
    assert entry["by_class"] == {"cat": [2, 0], "dog": [1, 1], "fox": [0, 1]}
    assert entry["by_pair"]["cat→dog"] == [2, 0]
    numbers = [3, 7, 8, 20, 21, 22, 30, 40, 50, 99]
    changed = flips(
        answers(LABELS, AFTER, numbers=numbers), answers(LABELS, BEFORE, numbers=numbers)
    )
    assert (changed.lost.tolist(), changed.gained.tolist()) == ([3, 7, 30], [22, 99])
    assert changed.by_class == {"dog": (1, 1), "cat": (2, 0), "fox": (0, 1)}, (
        "classes are looked up by position"
    )
    changed = flips(answers([0] * 9, [0] * 8 + [1]), answers([0] * 9, [1] * 7 + [0, 0]))
    assert (len(changed.gained), len(changed.lost)) == (7, 1)
    assert changed.p_value == pytest.approx(2 * 9 / 256, abs=1e-15)


@st.composite
def two_models(draw: st.DrawFn) -> tuple[Predictions, Predictions]:
    n = draw(st.integers(1, 40))
    labels, one, other = (
        draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)) for _ in range(3)
    )
    numbers = draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n, unique=True).map(sorted))
    return answers(labels, one, numbers=numbers), answers(labels, other, numbers=numbers)


@settings(deadline=None, max_examples=15)
@given(two_models())
def test_net_is_the_difference_of_accuracies_and_counts_add_up(drawn):
    one, other = drawn
    changed = flips(one, other)
    lost, gained = len(changed.lost), len(changed.gained)
    assert changed.net == pytest.approx(accuracy(one).value - accuracy(other).value, abs=1e-12)
    assert changed.interval[0] <= changed.net <= changed.interval[1]
    for counts in (changed.by_class, changed.by_pair):
        assert [sum(column) for column in zip(*counts.values(), strict=True)] == (
            [lost, gained] if counts else []
        )
    assert not {*changed.lost.tolist()} & {*changed.gained.tolist()}


def test_accuracy_change_is_the_net_change_with_its_images():
    numbers = list(range(100, 110))
    measured = accuracy_change(
        answers(LABELS, AFTER, [0.5, 0.9, 0.8, 0.8, 0.8, 0.8, 0.7, 0.8, 0.8, 0.8], numbers=numbers),
        answers(LABELS, BEFORE, numbers=numbers),
    )
    assert (measured.metric.name, measured.unit.value, measured.n) == (
        "accuracy_change",
        "difference",
        10,
    )
    assert measured.value == pytest.approx(-0.1, abs=1e-15)
    assert (measured.p_value, measured.interval) == (1.0, measured.flips.interval)
    assert measured.failures.tolist() == [1, 6, 0], (
        "positions of the images lost, the most confident first"
    )
    assert measured.flips.lost.tolist() == [100, 101, 106]
    assert measured.detail == "2 images gained, 3 lost (McNemar p = 1); cat→dog 2 lost, 0 gained"


REGRESSION = Check(
    "regression-clean",
    "regression",
    "accuracy_change",
    role="incumbent",
    significance=0.001,
    hand=Threshold(-0.01),
)


def change(value: float, p_value: float | None, *, interval=(-0.03, -0.011)) -> Measurement:
    return Measurement(METRICS["accuracy_change"], value, 10_000, interval, p_value=p_value)


@pytest.mark.parametrize(
    ("value", "p_value", "status"),
    [
        (-0.02, 0.2, "pass"),
        (-0.02, 0.001, "pass"),
        (-0.02, 0.00099, "fail"),
        (-0.02, 0.0, "fail"),
        (-0.01, 0.0, "pass"),
        (-0.005, 1e-9, "pass"),
        (0.03, 1e-9, "pass"),
    ],
    ids=[
        "chance",
        "just-chance",
        "just-significant",
        "significant",
        "at-the-threshold",
        "within-the-threshold",
        "gain",
    ],
)
def test_only_a_loss_beyond_the_threshold_that_is_significant_fails(value, p_value, status):
    assert REGRESSION.judge(change(value, p_value)).status == status


def test_a_pass_by_chance_says_so_and_a_verdict_carries_its_flips():
    assert REGRESSION.judge(change(-0.02, 0.2)).explain() == (
        "regression-clean: accuracy change -0.0200 beyond threshold -0.0100, not significant "
        "(n=10000, 95% CI -0.0300 to -0.0110; threshold set by hand)"
    )
    assert "chance" not in REGRESSION.judge(change(-0.02, 0.0)).explain()
    assert "chance" not in REGRESSION.judge(change(0.0, 1.0)).explain()
    measured = accuracy_change(answers(LABELS, AFTER), answers(LABELS, BEFORE))
    verdict = REGRESSION.judge(measured)
    received = read_json(Verdict, as_json(verdict), where="sent")
    assert received == verdict
    assert json.loads(json.dumps(received.as_json()))["flips"] == json.loads(
        json.dumps(measured.flips.as_json())
    )
    assert (
        Check("clean", "clean", "accuracy")
        .judge(accuracy(answers(LABELS, AFTER)))
        .as_json()["flips"]
        is None
    )


@pytest.mark.parametrize("value", [-0.02, 0.0], ids=["beyond", "within"])
def test_a_significance_asked_of_a_metric_without_p_value_is_refused(value):
    with pytest.raises(
        ChecksError, match=r"check regression-clean: .*significance.*; remove `significance`"
    ):
        REGRESSION.judge(change(value, None))
