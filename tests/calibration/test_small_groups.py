"""Groups of few images: what their checks detect, and when they say why they are informational."""

import numpy as np
import pytest
from scipy import stats

from harness.calibration.panel import Chance, Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.measures import Unit
from harness.measures.metric import packed
from harness.measures.panel.threshold import PanelCheck
from harness.measures.slices import GROUP_ACCURACY
from harness.perturb import PROTOCOL


def panel_of(count, groups, n):
    """Return a panel of models with a chance of their own for each image, 90% on average.

    The chance differs by group.
    """
    rng = np.random.default_rng(0)
    answers = rng.random((count, groups, n)) < rng.beta(0.4, 0.04, (groups, n))
    checks = tuple(
        PanelCheck(f"{at}", "slice", GROUP_ACCURACY.name, Unit.SHARE, "at_least", n)
        for at in range(groups)
    )
    values = (
        {f"{at}": float(share) for at, share in enumerate(one.mean(axis=1))} for one in answers
    )
    models = tuple(ReferenceModel(f"{at}", f"{at}", at, each) for at, each in enumerate(values))
    each = {"id": "0", "unit": "share"}
    chance = {
        f"{at}": Chance.of([each | {"each": packed(one[at])} for one in answers])
        for at in range(groups)
    }
    return Panel("data", PROTOCOL, {}, checks, models, None, chance, "groups")


def test_what_a_group_detects_allows_for_which_images_are_lost():
    (item,) = thresholds_of(panel_of(20, 1, 300))
    error, drop = item.spread * np.sqrt(1 + 1 / 20), item.minimum_detectable_drop
    power = stats.norm.cdf((drop - item.k * error) / np.hypot(error, np.sqrt(drop / 300)))
    assert power == pytest.approx(0.95, abs=1e-6)


def test_a_check_of_a_small_group_judges_and_says_what_it_detects():
    items = thresholds_of(panel_of(3, 2, 60))
    assert not any(item.informational for item in items)
    assert all(item.minimum_detectable_drop > 0.1 for item in items)
