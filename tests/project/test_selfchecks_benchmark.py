"""The benchmark of self-checks: its results reach what is wanted, and count what ends a run."""

import pytest

from benchmarks.runner import missed, read
from benchmarks.selfchecks.__main__ import RESULTS, goals_of
from benchmarks.selfchecks.pictures import SHAPES, drawn


@pytest.fixture(scope="module")
def results():
    return read(RESULTS)


def test_the_results_reach_the_goals(results):
    assert missed(goals_of(results)) == []


def test_a_failed_self_check_misses_the_goal(results):
    name = next(iter(results))
    changed = {
        **results,
        name: results[name] | {"exit_status": 4, "failed": ["overconfident: not caught"]},
    }
    assert missed(goals_of(changed)) == ["0 healthy models that end with 4: 1"]


def test_drawn_pictures_follow_from_their_seed():
    images, labels = drawn(16, seed=3)
    again, _ = drawn(16, seed=3)
    assert (images == again).all()
    assert images.shape == (16, 24, 24, 3)
    assert sorted({*labels.tolist()}) == list(range(len(SHAPES)))
    assert (images.reshape(16, -1).max(axis=1) > 0).all()
