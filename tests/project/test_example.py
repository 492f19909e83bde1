"""The worked example, in a reduced form: its data, a network trained for moments, its gate."""

import json
import runpy
import shutil
import sys
from pathlib import Path

from zoo import hypothesis_as_it_starts

from harness.checks import read_checks
from harness.inference import anew

EXAMPLE = Path(__file__).parents[2] / "examples/digits_on_photos"
CHECKS = read_checks(EXAMPLE / "stress_tests/checks.toml")


def test_its_gate_judges_a_network_trained_too_briefly(pytester, monkeypatch):
    left_out = shutil.ignore_patterns("runs", "reports", "*.npz", "__pycache__")
    shutil.copytree(EXAMPLE, pytester.path, ignore=left_out, dirs_exist_ok=True)
    for arguments in (
        ("data",),
        ("train", "runs/brief.pth", "--seed", "1", "--epochs", "2", "--digits", "300"),
    ):
        monkeypatch.setattr(sys, "argv", ["digits_on_photos.py", *arguments])
        runpy.run_path("digits_on_photos.py", run_name="__main__")
    monkeypatch.setattr(anew, "SEEDS", anew.SEEDS[:1])  # Each other process takes seconds to start.
    with hypothesis_as_it_starts():
        options = (
            "--stress-samples",
            "100",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:html",
            "--stress-set=no_overview=true",
        )
        done = pytester.runpytest_inprocess("--candidate", "runs/brief.pth", *options)
    assert done.ret == 1
    report = json.loads(Path("reports/stress.json").read_text())
    assert report["verdict"] == "partial"
    assert "error" not in {check["status"] for check in report["checks"]}, done.stdout
    assert {check["id"] for check in report["checks"]} == {check.id for check in CHECKS.checks}
    found = {check["id"]: check for check in report["checks"]}
    assert found["clean"]["status"] == "fail"
    assert found["attention-lift"]["status"] == "fail"
    assert 0 < found["attention-lift"]["value"] < found["attention-lift"]["reference_mean"]
    known = {
        "architecture": "user",
        "outputs": "probabilities",
        "normalization": "mean [0.5], std [0.25]",
    }
    assert report["candidate"] | {"path": "", "sha256": ""} == {"path": "", "sha256": "", **known}


def test_its_thresholds_come_from_a_panel():
    assert CHECKS.recipe["about"].startswith("10 reference models")
    gated = [check for check in CHECKS.checks if check.binding]
    assert {"clean", "rotation", "shift", "background"} <= {check.family for check in gated}
    assert all(check.panel and check.panel.reference_models == 10 for check in gated)
