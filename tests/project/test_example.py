"""The worked example, in a reduced form: its data, a network trained for moments, its gate."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.checks import read_checks

EXAMPLE = Path(__file__).parents[2] / "examples/digits_on_photos"
CHECKS = read_checks(EXAMPLE / "stress_tests/checks.toml")


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "digits_on_photos"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("runs", "reports", "*.npz", "__pycache__"))
    run(folder, "digits_on_photos.py", "data")
    run(folder, "digits_on_photos.py", "train", "runs/brief.pth", "--seed", "1", "--epochs", "2", "--digits", "300")
    return folder


def run(folder, *arguments, ok=(0,)):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = (sys.executable, *arguments)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in ok, done.stdout + done.stderr
    return done


def test_its_gate_judges_a_network_trained_too_briefly(example):
    options = ("--stress-samples", "100", "-p", "no:cacheprovider")
    done = run(example, "-m", "pytest", "--candidate", "runs/brief.pth", *options, ok=(1,))
    report = json.loads((example / "reports/stress.json").read_text())
    assert report["verdict"] == "partial"
    assert "error" not in {check["status"] for check in report["checks"]}, done.stdout
    assert {check["id"] for check in report["checks"]} == {check.id for check in CHECKS.checks}
    found = {check["id"]: check for check in report["checks"]}
    assert found["clean"]["status"] == "fail"
    assert found["attention-lift"]["status"] == "informational", "the panel could not bind it"
    assert 0 < found["attention-lift"]["value"] < found["attention-lift"]["reference_mean"]
    assert report["candidate"] | {"path": "", "sha256": ""} == {
        "path": "",
        "sha256": "",
        "architecture": "user",
        "outputs": "probabilities",
        "normalization": "mean [0.5], std [0.25]",
    }


def test_its_thresholds_come_from_a_panel():
    assert CHECKS.recipe["about"].startswith("10 reference models")
    gated = [check for check in CHECKS.checks if check.binding]
    assert {"clean", "rotation", "shift", "background"} <= {check.family for check in gated}
    assert all(check.panel and check.panel.reference_models == 10 for check in gated)
