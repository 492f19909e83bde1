"""The rule of equivalence.

Bounds that hold as often as they say, three outcomes, and the images that would tell.
"""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, multinomial

from harness.checks.tolerance import ToleranceTest, overall
from harness.measures.changed_predictions import PREDICTIONS_CHANGED, measured
from harness.measures.equivalence import (
    CONFIDENCE,
    images_needed,
    least_images,
    mean,
    net_limits,
    net_loss,
    outcome_of,
    proportion,
    proportion_limits,
    quantile,
    worst,
)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (1, 10), (10, 10), (27, 10_000), (301, 10_000)])
def test_bounds_of_a_proportion_are_scipys_exact_ones(count, n):
    lower, upper = proportion_limits(count, n, 0.99)
    # Two-sided with 98%, each of its sides has 99%.
    exact = binomtest(count, n).proportion_ci(0.98, method="exact")
    assert (lower, upper) == pytest.approx((exact.low, exact.high), abs=1e-12)


@pytest.mark.parametrize("lost", [0.0, 0.02, 0.4])
@pytest.mark.parametrize("gained", [0.0, 0.1])
def test_bounds_of_a_net_loss_hold_whatever_is_gained(lost, gained):
    n, net = 24, lost - gained
    low = high = 0.0
    for gone, come in itertools.product(range(n + 1), repeat=2):
        if gone + come <= n:
            chance = multinomial.pmf(
                [gone, come, n - gone - come], n, [lost, gained, 1 - lost - gained]
            )
            lower, upper = net_limits(gone, come, n, CONFIDENCE)
            low += chance * (lower <= net)
            high += chance * (upper >= net)
    assert low >= CONFIDENCE - 1e-9
    assert high >= CONFIDENCE - 1e-9


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_bounds_of_a_percentile_hold_for_any_distribution(share):
    n, generator = 700, np.random.default_rng(5)
    low = high = 0
    for _ in range(2_000):
        lower, upper = quantile(generator.random(n), share).limits(CONFIDENCE)
        low += lower <= share
        high += upper >= share
    assert low / 2_000 >= CONFIDENCE - 0.006
    assert high / 2_000 >= CONFIDENCE - 0.006


def test_bounds_at_their_limits():
    """Eight views that all say the same are as uncertain as one.

    Changes within a tolerance lose no more than it.
    """
    assert quantile(np.zeros(400), 0.99).limits(CONFIDENCE) == (0.0, math.inf)
    assert quantile(np.zeros(459), 0.99).limits(CONFIDENCE) == (0.0, 0.0)
    assert mean(np.linspace(0, 1, 200)).limits(1 - 1e-7) == (-math.inf, math.inf)
    for changed in (0, 10, 50, 75):
        assert proportion_limits(changed, 10_000, CONFIDENCE)[1] <= 0.01
        assert net_limits(changed, 0, 10_000, CONFIDENCE)[1] <= 0.01
    changed = np.zeros(2_000)
    changed[:60] = 1
    assert mean(changed).limits(CONFIDENCE)[1] == pytest.approx(
        proportion_limits(60, 2_000, CONFIDENCE)[1], rel=0.06
    )


def pooled(n, rate, generator, views=8):
    """Return the share of views that change, by image; the views of one image change together."""
    prone = generator.random(n) < 5 * rate
    return ((generator.random((n, views)) < 0.2) & prone[:, None]).mean(axis=1)


def test_bounds_clustered_by_image_hold():
    generator, rate, repeats = np.random.default_rng(7), 0.01, 200
    low = high = 0
    for _ in range(repeats):
        lower, upper = mean(pooled(2_000, rate, generator)).limits(CONFIDENCE)
        low += lower <= rate
        high += upper >= rate
    assert low / repeats >= CONFIDENCE - 0.02
    assert high / repeats >= CONFIDENCE - 0.02


@pytest.mark.parametrize("each", [np.zeros(1_000), np.full(1_000, 1e-7)])
def test_a_distance_of_nothing_is_not_proved_to_be_zero(each):
    lower, upper = mean(each).limits(CONFIDENCE)
    assert lower <= each.mean()
    assert 0.00459 < upper < 0.0047


@pytest.mark.parametrize(
    ("changed", "expected"),
    [(0, "equal"), (67, "equal"), (90, "inconclusive"), (110, "inconclusive"), (301, "different")],
)
def test_three_outcomes(changed, expected):
    assert outcome_of(proportion(changed, 10_000), 0.01) == expected


def outcomes_of(quantities, tolerance):
    """Return the outcomes of tests that share their level."""
    found = [measured(PREDICTIONS_CHANGED, quantity) for quantity in quantities]
    return [ToleranceTest(each, tolerance, len(found)).outcome for each in found]


def test_checks_share_the_level_of_a_difference():
    barely, none = proportion(126, 10_000), proportion(0, 10_000)
    assert outcome_of(barely, 0.01) == "different"
    assert outcomes_of([barely, *[none] * 20], 0.01)[0] == "inconclusive"
    generator, alarms = np.random.default_rng(3), 0
    for _ in range(200):
        counts = generator.binomial(2_000, 0.01, size=12)
        alarms += "different" in outcomes_of(
            [proportion(int(count), 2_000) for count in counts], 0.01
        )
    assert alarms / 200 <= 0.02, "twelve tests at the whole level would give 0.1"


@pytest.mark.parametrize(("tolerance", "images"), [(0.001, 4_603), (0.01, 459), (0.05, 90)])
def test_images_without_a_change_that_prove_a_tolerance(tolerance, images):
    assert least_images(tolerance) == images
    assert outcome_of(proportion(0, images), tolerance) == "equal"
    assert outcome_of(proportion(0, images - 1), tolerance) == "inconclusive"
    assert images_needed(proportion(0, 50), tolerance) == images


@pytest.mark.parametrize("changed", [60, 85, 95, 105, 130])
def test_as_many_images_as_are_named_would_tell(changed):
    measured = proportion(changed, 10_000)
    needed = images_needed(measured, 0.01)
    more = needed / 10_000
    lower, upper = measured.limits(CONFIDENCE, more)
    assert upper <= 0.01 if measured.value < 0.01 else lower > 0.01
    assert (
        outcome_of(proportion(round(changed * more * 1.05), round(needed * 1.05)), 0.01)
        != "inconclusive"
    )


@pytest.mark.parametrize(
    "measured", [net_loss(80, 5, 10_000), mean(np.r_[np.full(170, 0.5), np.zeros(9_830)])]
)
def test_images_are_named_for_what_is_no_count(measured):
    assert outcome_of(measured, 0.009) == "inconclusive"
    assert images_needed(measured, 0.009) > 10_000


def test_the_worst_group_is_one_that_is_large_enough():
    measured = worst({"shoe": proportion(2, 1_000), "bag": proportion(1, 20)}, least=90)
    assert (measured.group, measured.n) == ("shoe", 1_020)
    assert outcome_of(measured, 0.05) == "equal"
    measured = worst({"shoe": proportion(2, 1_000), "bag": proportion(20, 20)}, least=90)
    assert outcome_of(measured, 0.05) == "different"
    six = {f"{at}": proportion(6 if at == 0 else 0, 20) for at in range(5)} | {
        "shoe": proportion(2, 1_000)
    }
    found = [outcome_of(worst(six, least=90), tolerance) for tolerance in (0.06, 0.08)]
    assert found == ["different", "equal"], (
        "all six share the level: alone, 6 of 20 are more than 9.7%"
    )
    small = worst({"bag": proportion(0, 20), "shoe": proportion(2, 80)}, least=90)
    assert outcome_of(small, 0.05) == "informational"
    assert overall(["equal", "informational"]) == "equal"
    assert overall(["informational"]) == "inconclusive"
    assert outcome_of(worst({"bag": proportion(20, 20)}, least=90), 0.05) == "different"
    assert overall(["equal", "equal"]) == "equal"
    assert overall(["equal", "inconclusive"]) == "inconclusive"
    assert overall(["equal", "inconclusive", "different"]) == "different"
    assert overall([]) == "inconclusive"


def test_the_first_number_of_images_that_tells_counts():
    """From 30 contributing images on, a bootstrap replaces counts.

    Limits do not narrow steadily there.
    """
    changed = np.zeros(10_000)
    changed[:3] = 1.0
    assert 60_000 < images_needed(mean(changed), 0.0005) < 70_000
    assert images_needed(proportion(100, 10_000), 0.01) is None
