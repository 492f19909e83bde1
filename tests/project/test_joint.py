"""The benchmark of joint rules: deviations of a whole profile in one number."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from benchmarks.joint.compare import simulate
from benchmarks.joint.rules import (
    RULES,
    Profile,
    cauchy,
    mahalanobis,
    perlman,
    plain_mean,
    profile,
    to_no_correlation,
    to_one_correlation,
)

CHECKS, FAMILIES, MODELS = 12, 4, 20
AVERAGE = np.kron(np.eye(FAMILIES), np.full((CHECKS // FAMILIES, 1), FAMILIES / CHECKS))


def drawn(models=MODELS, others=3, shift=0.0, seed=0):
    values = np.random.default_rng(seed).normal(0, 1, (models + others, CHECKS))
    return profile(values[:models], values[models:] + shift, AVERAGE)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_tells_a_network_that_is_worse_everywhere(name):
    usual, worse = RULES[name](drawn()), RULES[name](drawn(shift=8.0))
    assert usual.shape == worse.shape == (3,)
    assert worse.min() > usual.max()


@pytest.mark.parametrize("rule", [plain_mean, cauchy, partial(perlman, shrink=to_one_correlation)])
def test_a_network_that_is_better_everywhere_is_no_finding_one_sided(rule):
    assert rule(drawn(shift=-8.0)).max() <= 1e-6


def test_the_distance_is_mahalanobis_with_the_shrunk_covariance():
    found = drawn()
    covariance = to_no_correlation(found.members @ AVERAGE)
    each = found.others[0] @ AVERAGE
    expected = np.sqrt(each @ np.linalg.inv(covariance) @ each)
    assert mahalanobis(found, shrink=to_no_correlation)[0] == pytest.approx(expected)


def test_shrinkage_keeps_variances_and_moves_correlations_to_the_target():
    values = np.random.default_rng(1).normal(0, [1, 2, 3, 4], (6, 4))
    none, one = to_no_correlation(values), to_one_correlation(values)
    assert np.diag(none) == pytest.approx(values.var(axis=0, ddof=1))
    assert np.diag(one) == pytest.approx(np.diag(none))
    off = ~np.eye(4, dtype=bool)
    own = np.corrcoef(values.T)[off]
    shrunk = (none / np.sqrt(np.outer(np.diag(none), np.diag(none))))[off]
    assert (np.abs(shrunk) <= np.abs(own) + 1e-12).all()
    moved = (one / np.sqrt(np.outer(np.diag(one), np.diag(one))))[off]
    assert moved.std() < own.std()
    assert moved.mean() == pytest.approx(own.mean())


def test_one_p_value_is_its_own_cauchy_combination():
    found = Profile(np.zeros((MODELS, 1)), np.array([[2.0]]), np.ones((1, 1)))
    assert stats.cauchy.sf(cauchy(found)[0]) == pytest.approx(stats.t.sf(2.0, MODELS - 1))


def test_a_limit_by_simulation_keeps_its_share_of_networks_as_simulated():
    panel = np.random.default_rng(2).normal(0, 1, (MODELS, CHECKS))
    found = simulate(panel, AVERAGE, draws=2_000, seed=0)
    again = simulate(panel, AVERAGE, draws=2_000, seed=1)
    for name in RULES:
        assert (again[name] > np.quantile(found[name], 0.9)).mean() == pytest.approx(0.1, abs=0.03)
