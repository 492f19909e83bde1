"""Gain and offset of pixels: fitted to a loss, and read from pipelines."""

import numpy as np
import pytest

from harness.data.pipeline import Pipeline
from harness.data.stages import Normalise
from harness.inference.levels import Levels, fitted_levels, levels_between

IMAGENET = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PIXELS = np.linspace(0, 1, 50) ** 2


@pytest.mark.parametrize(
    "true", [Levels(0.94, 0.02), Levels(2.8, -0.8), Levels(0.35, 0.29), Levels()]
)
def test_the_fit_finds_the_values(true):
    def loss(levels):
        return float(
            np.abs((levels.gain - true.gain) * PIXELS + levels.offset - true.offset).mean()
        )

    found = fitted_levels(loss, mean=float(PIXELS.mean()), coarse=loss)
    assert (found.gain, found.offset) == (
        pytest.approx(true.gain, abs=0.01),
        pytest.approx(true.offset, abs=0.01),
    )


@pytest.mark.parametrize(
    "reference", [Pipeline(), Pipeline(normalise=IMAGENET)], ids=["plain", "normalized"]
)
def test_levels_of_a_pipeline_are_those_that_made_it(reference):
    found = levels_between(Levels(0.94, 0.02).of(reference), reference)
    assert (found.gain, found.offset) == (pytest.approx(0.94), pytest.approx(0.02))


def test_a_normalization_is_a_gain_and_an_offset_where_channels_agree():
    reference = Pipeline(normalise=Normalise((0.3,), (0.4,)))
    found = levels_between(Pipeline(normalise=Normalise((0.1,), (0.8,))), reference)
    assert (found.gain, found.offset) == (pytest.approx(0.5), pytest.approx(0.25))
    assert levels_between(Pipeline(), Pipeline(normalise=IMAGENET)) is None


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (Levels(0.94, 0.02), "pixels × 0.94 + 0.02"),
        (Levels(1.25, -0.1), "pixels × 1.25 - 0.1"),
        (Levels(2), "pixels × 2"),
    ],
)
def test_words_name_the_values(levels, words):
    assert str(levels) == words
