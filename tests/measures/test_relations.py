"""Relations by hand: each holds, each breaks.

And a stress test that declares one, as the documentation writes it.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from test_measures import predictions, wilson
from zoo import Zoo, network

from harness.base.errors import InputError
from harness.inference import Classifier, RoleModel, along
from harness.measures.relations import invariance, monotonicity, symmetry
from harness.perturb import IDENTITY, HorizontalFlip, Pose

PAGE = Path(__file__).parents[2] / "docs/relations.md"
LABELS = [0, 0, 1, 1]


def said(answers, confidence=None):
    return predictions(LABELS, answers, confidence)


def test_invariance_breaks_by_what_any_change_changes():
    measured = invariance(said([0, 2, 1, 0]), said([0, 2, 1, 0], [0.4, 0.5, 0.6, 0.7]))
    assert (measured.value, measured.n, measured.failures.tolist()) == (1.0, 4, [])
    assert measured.interval == pytest.approx(wilson(4, 4))
    before = said([0, 0, 1, 0])
    once, twice = said([0, 1, 1, 0]), said([0, 1, 1, 2])
    assert invariance(before, once).value == 0.75
    both = invariance(before, once, twice)
    assert (both.value, both.failures.tolist()) == (0.5, [1, 3])
    assert both.interval == pytest.approx(wilson(2, 4))
    assert both.detail == "2 predictions change under some of 2 changes"
    measured = invariance(said([1, 0, 1, 1]), said([2, 1, 2, 1], [0.9, 0.6, 0.8, 0.9]))
    assert measured.failures.tolist() == [2, 1, 0]


def test_monotonicity_breaks_where_the_first_answer_becomes_more_probable():
    series = [said(LABELS, [sure] * 4) for sure in (0.9, 0.7, 0.7, 0.5)]
    measured = monotonicity(series)
    assert (measured.value, measured.n, measured.failures.tolist()) == (1.0, 4, [])
    assert "0.900 → 0.700 → 0.700 → 0.500; largest rise 0.000" in measured.detail
    series = [
        said([0, 0, 1, 1], [0.9, 0.6, 0.9, 0.6]),
        said([0, 1, 1, 1], [0.5, 0.9, 0.8, 0.7]),  # The second image's first answer is at 0.05.
        said([0, 1, 1, 1], [0.8, 0.9, 0.7, 0.7]),
    ]
    measured = monotonicity(series)
    assert measured.failures.tolist() == [0, 3]
    assert measured.value == 0.5
    assert measured.interval == pytest.approx(wilson(2, 4))
    slow = [said(LABELS, [sure] * 4) for sure in (0.5, 0.54, 0.58, 0.62)]
    assert monotonicity(slow).value == 0
    assert monotonicity(slow, tolerance=0.2).value == 1
    wrong = [2, 2, 2, 2]
    assert monotonicity([said(wrong, [0.6] * 4), said(wrong, [0.9] * 4)]).value == 0


def test_symmetry_holds_for_equal_answers_and_breaks_for_others():
    left, right = said([0, 0, 1, 1]), said([0, 2, 1, 0])
    same = symmetry(left, left)
    assert (same.metric.name, same.value, same.failures.tolist()) == ("symmetry", 1.0, [])
    measured = symmetry(left, right)
    assert (measured.value, measured.failures.tolist()) == (0.5, [1, 3])
    assert measured.detail == "2 predictions differ; 100.0% are right one way, 50.0% the other"
    assert symmetry(right, left).value == 0.5
    four = said(LABELS)
    with pytest.raises(InputError, match="predictions before a change and none after it"):
        invariance(four)
    with pytest.raises(InputError, match="one severity, expected at least two"):
        monotonicity([four])


def test_a_model_is_asked_as_it_is_and_under_each_perturbation(pytester):
    zoo = Zoo(pytester.path)
    role = RoleModel("candidate", None, "c", "m", "user", None, Classifier(network(), workers=1))
    series = along(role, zoo.images, Pose(10), HorizontalFlip())
    assert [at.perturbation for at in series] == [IDENTITY, Pose(10), HorizontalFlip()]
    assert np.array_equal(series[0].predicted, role.predict(zoo.images).predicted)


def declared():
    """The stress test and the row of the page."""
    page = PAGE.read_text(encoding="utf-8")
    code, row = (
        re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("python", "toml")
    )
    return code, row


@pytest.mark.zoo(tests=())
def test_the_documented_relation_is_held_to_a_threshold(zoo):
    """A blind model never grows surer: a relation says nothing of accuracy."""
    code, row = declared()
    (zoo.tests / "test_turning.py").write_text(code, encoding="utf-8")
    zoo.bind(f"\n{row}hand = {{ threshold = 0.95 }}\n")
    for blind, status, exit_status in ((False, "fail", 1), (True, "pass", 0)):
        zoo.save("models/augmented.safetensors", blind=blind)
        assert zoo.run("--baseline", "none").ret == exit_status
        assert list(zoo.statuses.values()) == [status]
