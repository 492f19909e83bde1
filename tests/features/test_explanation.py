"""Served predictions explained by a pipeline.

Counts by hand, tests against SciPy, and how often noise is blamed.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.features.skew.explanation import ALPHA, better_p, explanation, least_changes, noise_p
from harness.measures.equivalence import CONFIDENCE, least_images, proportion_limits

ANSWERS = st.lists(st.integers(0, 2), min_size=1, max_size=40).map(np.array)


def triples(draw_size=30):
    one = st.lists(st.integers(0, 2), min_size=draw_size, max_size=draw_size).map(np.array)
    return st.tuples(one, one, one)


def test_counts_by_hand():
    served, reference, answers = np.array([[0, 1, 2, 1, 0], [0, 0, 0, 1, 0], [0, 1, 1, 1, 2]])
    found = explanation(served, reference, answers)
    assert (found.n, found.changed, found.explained, found.introduced) == (5, 2, 1, 1)
    assert found.net == 0
    assert found.agreement == pytest.approx(3 / 5)


@settings(deadline=None, max_examples=30)
@given(triples())
def test_disagreements_are_images_with_another_answer(drawn):
    served, reference, answers = drawn
    found = explanation(served, reference, answers)
    assert found.disagreements == (served != answers).sum()
    low, high = found.interval
    assert 0 <= low <= high <= 1


@settings(deadline=None, max_examples=30)
@given(triples())
def test_the_sign_test_is_that_of_scipy(drawn):
    served, first, second = drawn
    wins = int(((first == served) & (second != served)).sum())
    losses = int(((first != served) & (second == served)).sum())
    expected = (
        binomtest(wins, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    )
    assert better_p(served, first, second) == pytest.approx(expected)


def test_the_true_pipeline_is_seldom_beaten_by_any_of_many():
    # There are 200 served models with much noise, and 40 other pipelines for each, which the p
    # allows for.
    rng, beaten = np.random.default_rng(0), 0
    for _ in range(200):
        true = rng.integers(0, 4, 300)
        others = np.where(
            rng.random((40, 300)) < rng.uniform(0.01, 0.5, (40, 1)),
            rng.integers(0, 4, (40, 300)),
            true,
        )
        served = np.where(rng.random(300) < 0.3, rng.integers(0, 4, 300), true)
        beaten += min(better_p(served, other, true) for other in others) * len(others) < ALPHA
    assert beaten <= 200 * ALPHA


def upper(count, n) -> float:
    return proportion_limits(count, n, CONFIDENCE)[1]


@given(st.floats(0.001, 0.5))
def test_so_many_images_bound_the_share_and_one_less_does_not(tolerance):
    needed = least_images(tolerance)
    assert upper(0, needed) <= tolerance + 1e-9
    assert needed == 1 or upper(0, needed - 1) > tolerance - 1e-9


@given(st.integers(1, 10**6))
def test_so_many_changes_name_a_pipeline_and_one_less_does_not(comparisons):
    needed = least_changes(comparisons)
    assert 0.5**needed * comparisons <= ALPHA * (1 + 1e-9)
    assert 0.5 ** (needed - 1) * comparisons > ALPHA * (1 - 1e-9)


def test_noise_explains_a_few_changes_and_not_many():
    assert noise_p(0, 10_000) == 1
    assert noise_p(2, 10_000) > ALPHA
    assert noise_p(30, 10_000) < ALPHA / 2
