"""Samples fit into the time, cheap families keep more images than dear ones, and the power is what arithmetic says."""

import pytest

from harness.run.budget import LEAST, fitting_samples, noticeable_loss

COSTS = {"clean": 0.01, "rotation": 0.08, "corruption": 1.0}


def spent(samples, images):
    return sum(cost * samples.get(family, images) for family, cost in COSTS.items())


def test_where_all_fits_nothing_is_sampled():
    assert fitting_samples(COSTS, images=1_000, seconds=1_091) == {}


@pytest.mark.parametrize("seconds", [900, 3_000, 20_000])
def test_samples_fit_and_use_the_time(seconds):
    samples = fitting_samples(COSTS, images=50_000, seconds=seconds)
    assert 0.98 * seconds < spent(samples, 50_000) <= seconds
    everyone = [samples.get(family, 50_000) for family in COSTS]
    assert everyone == sorted(everyone, reverse=True), "the dearer, the fewer"


def test_no_other_samples_of_the_same_cost_notice_smaller_losses():
    samples = fitting_samples(COSTS, images=50_000, seconds=3_000)
    best = sum(noticeable_loss(samples.get(family, 50_000)) for family in COSTS)
    less = {**samples, "corruption": samples["corruption"] - 100, "rotation": samples["rotation"] + 1_250}
    more = {**samples, "corruption": samples["corruption"] + 100, "rotation": samples["rotation"] - 1_250}
    assert all(sum(noticeable_loss(other.get(family, 50_000)) for family in COSTS) > best for other in (less, more))


def test_a_family_without_passes_has_no_sample_and_none_falls_below_the_least():
    samples = fitting_samples({**COSTS, "class": 0.0}, images=50_000, seconds=1)
    assert samples == dict.fromkeys(COSTS, LEAST)


def test_the_loss_noticed_falls_with_the_root_of_the_number():
    assert noticeable_loss(5_000) == pytest.approx(0.0212, abs=0.0002)
    assert noticeable_loss(500) == pytest.approx(noticeable_loss(5_000) * 10**0.5)
