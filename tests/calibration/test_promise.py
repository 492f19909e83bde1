"""Promised minimum detectable drops hold.

Before any reference model is measured, and for more of them.
"""

import re

import numpy as np
import pytest
from test_moderated import ROWS, N, panel_of, reference

from harness.calibration.summary import cautious, detectable_drop, plan_lines
from harness.calibration.thresholds import thresholds_of


def drops(panel, **planned):
    return np.array([item.minimum_detectable_drop for item in thresholds_of(panel, **planned)])


@pytest.mark.parametrize("count", [5, 20])
def test_a_plan_for_more_models_than_are_at_hand_keeps_its_word(count):
    """Three of them may agree by chance.

    The expected drop is then too small for half of the checks.
    """
    held, expected = [], []
    for seed in range(40):
        values = reference(count, seed)
        few = panel_of(values[:3])
        real = drops(panel_of(values))
        planned = thresholds_of(few, reference_models=count)
        held.append(real <= [item.minimum_detectable_drop for item in cautious(few, planned)])
        expected.append(real <= [item.minimum_detectable_drop for item in planned])
    assert np.mean(held) > 0.93
    assert 0.3 < np.mean(expected) < 0.75


def test_a_plan_says_what_is_expected_and_what_will_hold():
    heads, cells, *_, note = plan_lines(panel_of(reference(3)))
    assert len(re.findall(r"\d+ reference models", heads)) == 4
    of_three, *of_more = re.findall(r"\d, (\d+\.\d(?: to \d+\.\d)?) points", cells)
    assert " to " not in of_three, "it is known"
    spans = [re.findall(r"\d+\.\d", span) for span in of_more]
    assert all(float(low) < float(high) for low, high in spans)
    assert note.endswith("Ranges run from the expected value to a 95% upper bound.")
    of = {n: detectable_drop("rotation", images=n, checks=4) for n in (500, 5_000)}
    assert of[500] == pytest.approx(of[5_000] * 10**0.5)
    assert detectable_drop("rotation", images=500, checks=40) > of[500]
    assert detectable_drop("clean", images=500, checks=1) < detectable_drop(
        "flip", images=500, checks=1
    )


@pytest.mark.parametrize("count", [3, 8])
def test_what_is_promised_before_a_model_is_measured_holds(count):
    """Of reference models that differ by 0.64 of the binomial variance.

    Chance between trainings, inflated.
    """
    chance = 0.4 * 0.9 * 0.1 / N
    real = []
    for seed in range(40):
        values = np.random.default_rng(seed).normal(0.9, np.sqrt(1.6 * chance), (count, ROWS))
        real += drops(panel_of(values, chance)).tolist()
    promised = detectable_drop("rotation", images=N, checks=ROWS)
    assert np.mean(np.array(real) <= promised) > 0.97
    assert np.median(real) > promised / 2, "it is no empty promise"
