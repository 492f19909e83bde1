"""Weighted means of samples with strata.

Against their formulas, and the coverage of their intervals by simulation.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from panels import view_of
from zoo import images_of

from harness.base.errors import InputError, NotRecordedError
from harness.data import stratified_sample
from harness.data.images import weighted_sample
from harness.data.strata import Strata, allocation, draw
from harness.measures import ACCURACY, BRIER_SCORE, PAIR_FAILURES, Unit
from harness.measures.confidence import NEGATIVE_LOG_LIKELIHOOD
from harness.measures.metric import Metric, count_of, mean_of, share_of
from harness.measures.panel.predictions import PanelPredictions
from harness.perturb import IDENTITY

OF, SIZES = np.array([0, 0, 0, 1, 1]), np.array([60, 40])


def images_with(strata):
    return replace(images_of(len(strata.of)), strata=strata)


def strata_of(of=OF, sizes=SIZES, unseen=None):
    return Strata(of, sizes, of if unseen is None else unseen)


def test_a_share_a_mean_and_a_count_weigh_each_stratum_by_its_size():
    held, images = np.array([True, True, False, True, False]), images_with(strata_of())
    value = 0.6 * 2 / 3 + 0.4 * 1 / 2
    share = share_of(ACCURACY, held, images=images)
    assert (share.value, share.n) == (pytest.approx(value), 5)
    assert share.each.mean() == pytest.approx(value)
    mean = mean_of(BRIER_SCORE, np.array([0.1, 0.2, 0.3, 1.0, 2.0]), images=images)
    assert mean.value == pytest.approx(0.6 * 0.2 + 0.4 * 1.5)
    count = count_of(PAIR_FAILURES, 3, 5, each=held, images=images)
    assert (count.value, count.n, count.counted) == (pytest.approx(100 * value), 100, 5)
    assert count.each.sum() == pytest.approx(100 * value)
    assert count.interval == pytest.approx([100 * end for end in share.interval])
    assert share.sampling.of_loss == pytest.approx((60 / 3 - 1) / 100)
    for measured in (share, mean, count):
        assert measured.interval[0] <= measured.value <= measured.interval[1]


def test_the_variance_by_sampling_is_that_of_all_possible_samples():
    """Cochran 1977, section 5.3: without bias, over every sample of two and three images."""
    values, of = np.array([0.0, 0.1, 0.5, 1.0, 0.2, 0.9, 0.4]), np.array([0, 0, 0, 0, 1, 1, 1])
    sizes = np.bincount(of)
    means, variances = [], []
    for first in combinations(range(4), 2):
        for second in combinations(range(4, 7), 2):
            at = np.array([*first, *second])
            strata = strata_of(of[at], sizes)
            means.append(strata.mean(values[at]))
            variances.append(strata.variance(values[at]))
    assert np.mean(means) == pytest.approx(values.mean())
    assert np.mean(variances) == pytest.approx(np.var(means))


def test_all_images_have_no_error_by_sampling():
    strata = strata_of(OF, np.bincount(OF))
    assert (strata.variance(np.arange(5.0)), strata.heaviest) == (0, 0)


def test_strata_that_a_model_defines_itself_hide_its_errors():
    """Every image is in the stratum of its own error; the other models know nothing of it."""
    wrong = np.array([True, True, True, False, False])
    share = share_of(ACCURACY, ~wrong, images=images_with(strata_of(unseen=np.zeros(5, dtype=int))))
    assert share.sampling.hidden > 0
    assert share_of(ACCURACY, ~wrong, images=images_with(strata_of())).sampling.hidden == 0


def test_a_class_has_its_own_weighted_mean():
    some = strata_of().among(np.array([True, False, True, True, False]))
    assert some.weights.tolist() == [20, 20, 20]
    assert (some.images, some.mean(np.array([1.0, 0.0, 1.0]))) == (60, pytest.approx(2 / 3))


@pytest.mark.parametrize("n", [12, 50, 120, 300, 1_000])
def test_no_other_allocation_has_a_smaller_variance(n):
    sizes, deviations = (
        np.array([851, 58, 22, 18, 20, 31]),
        np.array([0.1, 0.4, 0.5, 0.5, 0.4, 0.1]),
    )
    found = allocation(sizes, deviations, n)
    assert found.sum() == n
    assert (found <= sizes).all()
    least = np.minimum(sizes, min(30, n // 12))
    assert (found >= least).all()

    def variance(counts):
        return (np.square(sizes * deviations) * (1 / np.maximum(counts, 1e-9) - 1 / sizes)).sum()

    for source in range(6):
        for target in range(6):
            moved = found.copy()
            moved[source] -= 1
            moved[target] += 1
            if (
                source != target
                and moved[source] >= max(least[source], 1)
                and moved[target] <= sizes[target]
            ):
                assert variance(moved) >= variance(found) * (1 - 1e-9)


def test_a_draw_keeps_the_classes_of_a_stratum_and_depends_on_the_seed():
    of, labels = np.repeat([0, 1], 200), np.tile(np.arange(4), 100)
    at = draw(of, np.array([40, 20]), labels, seed=1)
    assert np.bincount(labels[at][of[at] == 0]).tolist() == [10] * 4
    assert np.bincount(of[at]).tolist() == [40, 20]
    assert at.tolist() == draw(of, np.array([40, 20]), labels, seed=1).tolist()
    assert at.tolist() != draw(of, np.array([40, 20]), labels, seed=2).tolist()


def test_a_part_of_a_sample_stands_for_the_same_images():
    images, of = images_of(400), np.repeat([0, 1, 2], [380, 16, 4])
    sample = weighted_sample(
        images, 60, of=of, unseen=of, deviations=np.array([0.1, 0.5, 0.5]), seed=0
    )
    assert sample.strata.weights.sum() == pytest.approx(400)
    assert sample is weighted_sample(
        images, 60, of=of, unseen=of, deviations=np.array([0.1, 0.5, 0.5]), seed=0
    )
    part = stratified_sample(sample, 12)
    assert (len(part), part.strata.weights.sum(), (part.strata.counts > 0).sum()) == (
        12,
        pytest.approx(400),
        3,
    )


@pytest.mark.parametrize(
    ("metric", "most"), [(ACCURACY, 1), (BRIER_SCORE, 2), (NEGATIVE_LOG_LIKELIHOOD, 1)]
)
def test_a_loss_varies_by_the_most_that_an_image_contributes(metric, most):
    of = np.repeat([0, 1, 2], [380, 16, 4])
    images = weighted_sample(
        images_of(400), 60, of=of, unseen=of, deviations=np.array([0.1, 0.5, 0.5]), seed=0
    )
    found = mean_of(metric, np.ones(60), images=images).sampling.of_loss
    assert found == pytest.approx(most * images.strata.heaviest / 400, rel=1e-3)


def test_a_weighted_metric_has_no_scale_of_poisson_counts():
    with pytest.raises(InputError, match="metric rare: has weighted=True and scale='root'"):
        Metric("rare", Unit.IMAGES, better="less", scale="root", weighted=True)


# By the panel.

MODELS = 20


def panel_of(each, images):
    """Return the clean predictions of models, by their errors, (K, N) bool."""
    wrong = each.sum(axis=0)
    view = replace(
        view_of(wrong, np.ones((len(wrong), 1)), np.zeros(len(wrong), dtype=int)), each=each
    )
    names = tuple(f"model {number}" for number in range(len(each)))
    return PanelPredictions(images.sha256, images.classes, names, {repr(IDENTITY): view})


def hard(rng, count):
    """Return each image's probability of an error.

    Nearly none for most, as for the shipped panel.
    """
    kinds = rng.choice(3, count, p=[0.87, 0.1, 0.03])
    return np.where(kinds == 0, 0.002, np.where(kinds == 1, rng.random(count), 0.995))


def sample_of(panel, images, size=300, seed=0):
    return panel.weighted_sample(images, size, clean=lambda: None, seed=seed)


def test_a_model_of_the_panel_has_the_strata_of_the_others():
    rng = np.random.default_rng(0)
    images = images_of(1_000)
    panel = panel_of(rng.random((MODELS, 1_000)) < hard(rng, 1_000), images)
    for_any, for_own = sample_of(panel, images), sample_of(panel.without("model 3"), images)
    assert for_any.positions.tolist() == for_own.positions.tolist()
    assert (for_any.strata.unseen == for_any.strata.of).all()
    own = panel.view().each[3, for_own.positions.numpy()]
    alone = own & (panel.view().wrong[for_own.positions.numpy()] == 1)
    assert alone.any()
    assert set(for_own.strata.unseen[alone]) == {0}, "all others are correct"


def test_images_without_predictions_of_the_panel_are_refused():
    images = images_of(40)
    with pytest.raises(NotRecordedError, match="no panel predictions"):
        sample_of(replace(panel_of(np.zeros((3, 40), dtype=bool), images), views={}), images, 10)


@pytest.mark.parametrize("loss", [0.0, 0.03], ids=["sound", "3% worse"])
def test_intervals_cover_at_their_nominal_rate(loss):
    """95 of 100 samples of a population, within a point.

    2,000 draws have a standard error of 0.5 points.
    """
    rng, covered = np.random.default_rng(1), []
    base = images_of(8)
    for _ in range(2_000):
        rate = hard(rng, 4_000)
        votes = rng.binomial(MODELS, rate)
        wrong = rng.random(4_000) < np.maximum(rate, 0) + loss * (1 - rate)
        truth = TRUTH + loss * (1 - TRUTH)
        of = np.where(votes == 0, 0, np.where(votes == MODELS, 5, 1 + (votes - 1) * 4 // 19))
        sizes = np.bincount(of, minlength=6)
        errors = np.maximum(
            (np.bincount(of, votes, 6) / np.maximum(sizes, 1) + 0.5) / (MODELS + 1), 0.01
        )
        at = draw(
            of,
            allocation(sizes, np.sqrt(errors * (1 - errors)), 800),
            np.zeros(4_000),
            seed=int(rng.integers(1e9)),
        )
        strata = Strata(of[at], sizes, of[at])
        low, high = share_of(ACCURACY, wrong[at], images=replace(base, strata=strata)).interval
        covered.append(low <= truth <= high)
    assert 0.94 <= np.mean(covered) <= 0.96


TRUTH = 0.87 * 0.002 + 0.1 * 0.5 + 0.03 * 0.995
"""Expected share of errors of a model that is as good as the panel."""
