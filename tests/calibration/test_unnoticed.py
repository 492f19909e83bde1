"""A calibration names checks of confidence that no overconfident model of this accuracy fails."""

import numpy as np
import pytest
from panels import calibrate, check, panel_of
from zoo import images_of

from harness.calibration.unnoticed import unnoticed_lines
from harness.checks import Threshold
from harness.inference import Predictions
from harness.measures import brier_score, calibration_error, confident_errors
from harness.measures.confidence import largest_if_certain
from harness.perturb import IDENTITY

CLEAN = check("clean", family="clean", n=800)
CALIBRATION = check("calibration", family="confidence", n=800, direction="at_most")


def lines_of(calibration_errors, *, errors=0.014, hands=()):
    """Return the lines for eight reference models with these calibration errors.

    The share of errors is given, too.
    """
    rng = np.random.default_rng(0)
    accuracies = 1 - errors + rng.normal(0, 1e-4, 8)
    panel = panel_of(np.c_[accuracies, calibration_errors], [CLEAN, CALIBRATION])
    return unnoticed_lines(panel, calibrate(panel), dict(hands))


LOW, HIGH = np.linspace(0.004, 0.006, 8), np.linspace(0.02, 0.024, 8)


def test_a_threshold_beyond_all_errors_cannot_notice_overconfidence():
    (line,) = lines_of(HIGH)
    assert line.startswith(
        "calibration: this check cannot notice overconfidence at this accuracy: 1.4% of errors"
    )
    assert lines_of(LOW) == [], "a threshold below the share of errors can"
    assert lines_of(HIGH, errors=0.2) == [], "with more errors it can"


def test_a_threshold_by_hand_counts_instead():
    assert lines_of(HIGH, hands={"calibration": Threshold(0.01)}) == []
    assert "its threshold is 0.05" in lines_of(LOW, hands={"calibration": Threshold(0.05)})[0]


@pytest.mark.parametrize("seed", range(3))
def test_no_certain_model_is_beyond_the_largest_value(seed):
    images = images_of(200)
    labels = images.labels.numpy()
    wrong = np.random.default_rng(seed).random(200) < 0.1
    answers = 1000.0 * np.eye(4)[(labels + wrong) % 4]
    predictions = Predictions(answers.astype(np.float32), images, IDENTITY)
    measurements = [
        calibration_error(predictions),
        brier_score(predictions),
        confident_errors(predictions, above=0.9),
    ]
    for measured in measurements:
        assert measured.value == pytest.approx(
            largest_if_certain(measured.metric.name, wrong.mean(), 200)
        )
    assert largest_if_certain("negative_log_likelihood", 0.1, 200) is None
