"""Gates of predictors end to end: scores, labels and top classes, serially and with workers."""

import numpy as np
import pytest
from zoo import images_of

OWN = """
import os, sys
import numpy as np
from sklearn.linear_model import LogisticRegression

file = np.load(os.path.join(os.path.dirname(__file__), "train.npz"))

class Probabilities:
    outputs = "probabilities"

    def __init__(self):
        pixels = file["images"].reshape(-1, 256) / 255
        self.model = LogisticRegression(max_iter=30).fit(pixels, file["labels"])

    def predict(self, pixels):
        assert "torch" not in sys.modules and "harness" not in sys.modules
        return self.model.predict_proba(pixels.reshape(len(pixels), -1) / 255)

class Labels(Probabilities):
    outputs = "labels"

    def predict(self, pixels):
        return super().predict(pixels).argmax(axis=1)

class Rewards(Probabilities):
    outputs = "scores"

    def predict(self, pixels):
        return super().predict(pixels).max(axis=1)

class Percentages(Rewards):
    def predict(self, pixels):
        return 100 * super().predict(pixels)

class Top(Probabilities):
    top = 2

    def predict(self, pixels):
        shares = super().predict(pixels)
        return np.where(shares >= np.sort(shares)[:, -2:-1], shares, np.nan)
"""
ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"
hand = { threshold = 0.8 }

[[check]]
id = "rotated"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }
hand = { threshold = 0.45 }

[[check]]
id = "sure"
family = "confidence"
metric = "confident_errors"
direction = "at_most"
confidence = 0.9
hand = { threshold = 30 }

[[check]]
id = "gap"
family = "confidence"
metric = "calibration_error"
hand = { threshold = 0.5 }

[[check]]
id = "loss"
family = "confidence"
metric = "negative_log_likelihood"
hand = { threshold = 5.0 }

[[check]]
id = "looks"
family = "attention"
metric = "attention_ratio"
hand = { threshold = 0.1 }
"""
TESTS, BOUND = ("clean", "rotation", "confident_errors", "calibration", "attention"), ROWS


@pytest.fixture(scope="module")
def gate(shared):
    """The repository with a classifier of scikit-learn, which is fitted to other images."""
    train = images_of(600, seed=3)
    np.savez(shared.root / "train.npz", images=train.pixels.numpy(), labels=train.labels.numpy())
    (shared.root / "own.py").write_text(OWN)
    return shared


KNOWN = {
    "Probabilities": {"clean", "rotated", "sure", "gap", "loss"},
    "Top": {"clean", "rotated", "sure", "gap"},
    "Labels": {"clean", "rotated"},
}


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("Labels", ()),
        pytest.param("Top", (), marks=pytest.mark.processes),
        pytest.param("Probabilities", ("-n", "1"), marks=pytest.mark.processes),
    ],
)
def test_a_scikit_learn_classifier_is_gated(gate, monkeypatch, name, workers):
    monkeypatch.setattr(
        "harness.run.steadiness.asked_elsewhere", lambda *_: []
    )  # See run/test_steadiness.py.
    ran = gate.once(f"--candidate=python:own:{name}", *workers, overview=name == "Labels")
    assert ran.ending == (0, "pass"), ran.summary
    for check in ("clean", "rotated", "sure", "gap", "loss"):
        assert ran.statuses[check] == ("pass" if check in KNOWN[name] else "not_applicable"), check
    assert ran.statuses["looks"] == "not_applicable"
    assert ran.report["candidate"]["path"] == f"python:own:{name}"
    assert set(ran.self_checks.values()) <= {"pass", "not_applicable"}
    said = [line for line in ran.summary.splitlines() if "not applicable" in line]
    assert any("a model of the kind python gives predictions only" in line for line in said)
    reason = {"Labels": "the predictor returns labels only", "Top": "the top 2 classes only"}.get(
        name
    )
    assert reason is None or any(reason in line for line in said)
    if name == "Labels":
        assert ran.report["overview"]["models"][0]["calibration_error"] is None
    if workers:  # Which ask children of their own.
        alone = gate.once(f"--candidate=python:own:{name}").checks
        assert {check: found["value"] for check, found in ran.checks.items()} == {
            check: found["value"] for check, found in alone.items()
        }


def test_a_candidate_that_dies_in_the_run_is_inconclusive(gate):
    dying = """
import os
import numpy as np

class Model:
    outputs, asked = "probabilities", 0

    def predict(self, pixels):
        self.asked += len(pixels)
        return np.full((len(pixels), 4), 0.25) if self.asked < 900 else os._exit(3)
"""
    ran = gate.once("--candidate=python:dying:Model", files={"dying.py": dying})
    assert ran.ending == (4, "error")
    assert "its process ended with status 3" in ran.summary


@pytest.mark.parametrize("scheme", ["python:gone:Model", "python:own"])
def test_a_candidate_that_cannot_be_opened_is_inconclusive(gate, scheme):
    ran = gate.once(f"--candidate={scheme}")
    assert ran.ending == (4, "error")
    assert f"candidate {scheme}: " in ran.summary


def test_a_callable_that_scores_images_is_gated(gate, monkeypatch):
    monkeypatch.setattr(
        "harness.run.steadiness.asked_elsewhere", lambda *_: []
    )  # See run/test_steadiness.py.
    ran = gate.once("--candidate=python:own:Rewards", "--stress-stop")
    assert ran.ending == (0, "pass"), ran.summary
    assert {name for name, status in ran.statuses.items() if status == "pass"} == KNOWN["Labels"]
    assert "the predictor gives a score for each image and no class" in ran.summary
    assert ran.self_checks["answers-are-the-models"] == "pass"
    assert set(ran.self_checks.values()) <= {"pass", "not_applicable"}


def test_scores_of_a_callable_outside_of_zero_to_one_are_inconclusive(gate):
    ran = gate.once("--candidate=python:own:Percentages")
    assert ran.ending == (4, "error")
    assert "scores are outside of 0 to 1" in ran.summary
