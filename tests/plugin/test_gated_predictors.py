"""Gates of predictors end to end: scores, labels and top classes, serially and with workers."""

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import harness.data
from harness.data import LabelledImages, load_fashion_mnist

DATA = Path(harness.data.__file__).parent / "fashion_mnist_files"
OWN = f"""
import gzip, os, sys
import numpy as np
from sklearn.linear_model import LogisticRegression

def read(name, start):
    return np.frombuffer(gzip.open(os.path.join({str(DATA)!r}, name)).read(), np.uint8, offset=start)

class Probabilities:
    outputs = "probabilities"

    def __init__(self):
        pixels = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:600] / 255
        self.model = LogisticRegression(max_iter=30).fit(pixels, read("t10k-labels-idx1-ubyte.gz", 8)[:600])

    def predict(self, pixels):
        assert "torch" not in sys.modules and "harness" not in sys.modules
        return self.model.predict_proba(pixels.reshape(len(pixels), -1) / 255)

class Labels(Probabilities):
    outputs = "labels"

    def predict(self, pixels):
        return super().predict(pixels).argmax(axis=1)

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
hand = { threshold = 0.5 }

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
TESTS = ("clean", "rotation", "confident_errors", "calibration", "attention")


@pytest.fixture
def gate(pytester, monkeypatch, tmp_path):
    from zoo import checks_text

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    images = load_fashion_mnist("test").take(torch.arange(600, 900))
    pytester.makeini("[pytest]")
    folder = pytester.mkdir("stress_tests")
    for name in TESTS:
        shutil.copy(Path(__file__).parents[2] / f"stress_tests/test_{name}.py", folder)
    images = LabelledImages(images.pixels[:], images.labels, images.classes, "made", "test")
    np.savez("made.npz", images=images.pixels[:, 0].numpy(), labels=images.labels.numpy(), classes=images.classes)
    (folder / "checks.toml").write_text(checks_text(images, ROWS))
    pytester.makepyfile(own=OWN)

    def run(candidate, *options):
        arguments = ("-p", "no:html", f"--candidate={candidate}", "--stress-set", "data=npz:made.npz", *options)
        result = pytester.runpytest_inprocess("stress_tests", *arguments)
        reports = pytester.path / "reports"
        return result, json.loads((reports / "stress.json").read_text()), (reports / "stress.md").read_text()

    return run


KNOWN = {
    "Probabilities": {"clean", "rotated", "sure", "gap", "loss"},
    "Top": {"clean", "rotated", "sure", "gap"},
    "Labels": {"clean", "rotated"},
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_scikit_learn_classifier_is_gated(gate, name):
    result, report, summary = gate(f"python:own:{name}")
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert result.ret == 0, summary
    for check in ("clean", "rotated", "sure", "gap", "loss"):
        assert statuses[check] == ("pass" if check in KNOWN[name] else "not_applicable"), check
    assert statuses["looks"] == "not_applicable"
    assert report["candidate"]["path"] == f"python:own:{name}"
    assert all(check["status"] in {"pass", "not_applicable"} for check in report["self_checks"])
    said = [line for line in summary.splitlines() if "not applicable" in line]
    assert any("a model of the kind python gives predictions only" in line for line in said)
    reason = {"Labels": "the predictor returns labels only", "Top": "the top 2 classes only"}.get(name)
    assert reason is None or any(reason in line for line in said)
    if name == "Labels":
        assert report["overview"]["models"][0]["calibration_error"] is None


def test_a_candidate_that_dies_in_the_run_is_inconclusive(gate):
    Path("dying.py").write_text(
        textwrap.dedent(
            """
            import own, os

            class Model(own.Probabilities):
                asked = 0

                def predict(self, pixels):
                    self.asked += len(pixels)
                    return super().predict(pixels) if self.asked < 900 else os._exit(3)
            """
        )
    )
    result, report, summary = gate("python:dying:Model")
    assert result.ret == 4
    assert report["verdict"] == "error"
    assert "its process ended with status 3" in summary


@pytest.mark.parametrize("scheme", ["python:gone:Model", "python:own"])
def test_a_candidate_that_cannot_be_opened_is_inconclusive(gate, scheme):
    result, _, summary = gate(scheme)
    assert result.ret == 4
    assert f"candidate {scheme}: " in summary


@pytest.mark.processes
def test_workers_ask_children_of_their_own(gate):
    values = []
    for options in ((), ("-n", "2")):
        result, report, _ = gate("python:own:Probabilities", *options)
        assert result.ret == 0
        values.append({check["id"]: check["value"] for check in report["checks"]})
    assert values[0] == values[1]
