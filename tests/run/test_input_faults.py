"""Input faults tell a candidate that gets wrong pixels from one with wrong weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from outcomes import EMPTY, FAIL, outcome_with
from torch import nn
from zoo import checks_text, role_model

from harness.checks import read_checks
from harness.data import LabelledImages
from harness.report.causes import likely_cause
from harness.report.text import markdown
from harness.run.input_faults import InputFaults, input_faults
from harness.run.session import StressSession
from harness.run.stress_json import record_and_images

CLASSES = ("red", "green", "blue")


def colored(count=600):
    """Images of two dark channels and a light one, which is the class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(len(CLASSES), size=count)
    pixels = rng.integers(0, 120, size=(count, 3, 8, 8), dtype=np.uint8)
    pixels[np.arange(count), labels] += 100
    return LabelledImages(
        torch.from_numpy(pixels), torch.from_numpy(labels), CLASSES, "colors", "test"
    )


class Reader(nn.Module):
    """Names the light channel of what it was trained to see.

    Errs on a share of the images at random.
    """

    def __init__(self, seen, *, errs=0.0):
        super().__init__()
        self.seen, self.errs = seen, errs

    def forward(self, pixels):
        """Return the share of light pixels of each channel as logits."""
        pixels = self.seen(pixels)
        light = (pixels > 120.5 / 255).float().mean(dim=(2, 3)) + torch.tensor([0.0, 1e-3, 2e-3])
        errs = (pixels.double().sum(dim=(1, 2, 3)) * 1e3).remainder(1.0)[:, None] < self.errs
        return torch.where(errs, light.roll(1, dims=1), light) * 50


def faults_of(tmp_path, model):
    images, path = colored(), tmp_path / "checks.toml"
    path.write_text(checks_text(images))
    return input_faults(
        StressSession(images, read_checks(path), {"candidate": role_model(model=model)})
    )


@pytest.mark.parametrize(
    ("best", "seen"),
    [
        ("BGR", lambda pixels: pixels.flip(1)),
        ("levels 0 to 255", lambda pixels: pixels / 255),
        ("levels -1 to 1", lambda pixels: (pixels + 1) / 2),
        ("inverted levels", lambda pixels: 1 - pixels),
    ],
)
def test_wrong_pixels_are_the_cause(tmp_path, best, seen):
    found = faults_of(tmp_path, Reader(seen, errs=0.02))
    assert found.best.startswith(best) or best == "levels -1 to 1", (
        "normalization by 0.5 gives the same levels"
    )
    assert found.explain
    assert found.n == 600
    assert found.correct < 0.7 * found.n < 0.95 * found.n < found.correct_with


def test_wrong_weights_are_not_pixels(tmp_path):
    found = faults_of(tmp_path, Reader(lambda pixels: pixels, errs=0.3))
    assert found.correct < 0.8 * found.n
    assert not found.explain


def test_a_model_may_refuse_other_pixels(tmp_path):
    class Strict(Reader):
        def forward(self, pixels):
            assert pixels.amin() >= 0
            assert pixels.amax() <= 1
            return super().forward(pixels)

    assert faults_of(tmp_path, Strict(lambda pixels: pixels.flip(1))).best == "BGR"


def test_few_images_prove_nothing():
    assert not InputFaults(tried=13, best="BGR", n=100, correct=95, correct_with=99, p=0.2).explain


def test_every_report_says_so():
    faults = InputFaults(tried=13, best="BGR", n=1000, correct=610, correct_with=926, p=1e-9)
    outcome = outcome_with(EMPTY, verdicts=(FAIL,), input_faults=faults)
    said = (
        "Likely cause: broken pipeline. 92.6% with BGR, 61.0% without: the pixels, not the weights"
    )
    assert said in markdown(outcome)
    assert '"best": "BGR"' in record_and_images(outcome)[0]
    weights = replace(faults, correct_with=700)
    assert likely_cause(outcome.results.verdicts, weights).group != "broken pipeline"
