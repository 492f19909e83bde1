"""Commands take predictors: a calibration by callables, and evaluate, compare, break and golden."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from zoo import GatedZoo

from harness.base.files import user_folder
from harness.checks import read_checks
from harness.cli import main

ROWS = """
[[check]]
id = "clean"
family = "clean"
metric = "accuracy"

[[check]]
id = "rotate-ccw-010"
family = "rotation"
metric = "accuracy"
pose = { degrees = 10 }

[[check]]
id = "confident-errors"
family = "confidence"
metric = "confident_errors"
direction = "at_most"
confidence = 0.9
"""
OWN = """
import numpy as np

BITS = np.random.default_rng(0).integers(0, 2, (4, 8, 8))
PATTERNS = BITS.repeat(2, axis=1).repeat(2, axis=2).reshape(4, -1)

class Model:
    outputs = "logits"
    seed = 0

    def __init__(self):
        noise = np.random.default_rng(self.seed).normal(0, 0.15, PATTERNS.shape)
        self.weights = (PATTERNS - PATTERNS.mean(axis=1, keepdims=True) + noise).T

    def predict(self, pixels):
        return pixels.reshape(len(pixels), -1) / 255 @ self.weights

class Labels(Model):
    outputs = "labels"

    def predict(self, pixels):
        return super().predict(pixels).argmax(axis=1)
"""
OWN += "".join(
    f"\nclass {kind}{seed}({kind}):\n    seed, files = {seed}, []\n"
    for kind in ("Model", "Labels")
    for seed in range(3)
)
OWN += """
class Top(Model):
    outputs, top = "probabilities", 2

    def predict(self, pixels):
        scores = np.exp(super().predict(pixels) - 100)
        shares = (scores + 1e-9) / (scores + 1e-9).sum(axis=1, keepdims=True)
        return np.where(np.argsort(np.argsort(shares)) >= 2, shares, np.nan)
"""


@pytest.fixture
def zoo(pytester, monkeypatch, tmp_path, runs):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = GatedZoo(pytester)
    place.bind(ROWS)
    pytester.makepyfile(own=OWN)
    return place


@pytest.mark.parametrize(("kind", "sure"), [("Model", True), ("Labels", False)])
def test_three_callables_are_a_panel(zoo, kind, sure):
    """Their measurements are kept if they declare their files.

    Those of labels declare none here.
    """
    if not sure:
        (zoo.root / "own.py").write_text(OWN.replace(", files =", ", other ="))
    named = [f"python:own:{kind}{seed}" for seed in range(3)]
    assert (
        main(["calibrate", "--checkpoints", *named, "--", "--stress-set", "data=npz:zoo.npz"]) == 0
    )
    checks = read_checks(zoo.checks)
    assert [
        model["path"]
        for model in json.loads((zoo.root / "models/panel.json").read_text())["models"]
    ] == named
    calibrated = {check.id for check in checks.checks if check.panel is not None}
    assert calibrated == {
        "class",
        "clean",
        "rotate-ccw-010",
        *(["confident-errors"] if sure else []),
    }
    assert bool(list(user_folder("measured").glob("*.entry"))) == sure


@pytest.mark.parametrize(
    "command",
    [
        ("compare", "python:own:Labels0", "python:own:Model1"),
        ("break", "python:own:Labels0", "--image", "0"),
    ],
    ids=["compare", "break"],
)
def test_a_command_takes_a_predictor(zoo, command, capsys, monkeypatch):
    monkeypatch.chdir(zoo.root)
    assert main([*command, "--data", "npz:zoo.npz"]) in {0, 1}
    printed = capsys.readouterr().out
    assert "nan" not in printed.lower()
    assert printed


def test_failures_of_images_of_8_pixels_are_counted_at_no_corner(tmp_path, monkeypatch, capsys):
    """The corners shift by 2 px, a quarter of such an image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images, labels = (
        np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8),
        np.arange(40) % 4,
    )
    np.savez("small.npz", images=images, labels=labels, classes=np.array(list("abcd")))
    weights = "np.random.default_rng(1).normal(size=(64, 4))"
    predict = (
        f"def predict(pixels):\n    return pixels.reshape(len(pixels), -1) / 255 @ {weights}\n"
    )
    Path("small.py").write_text(f"import numpy as np\n\n{predict}", "utf-8")

    assert main(["evaluate", "python:small:predict", "--failures", "--data", "npz:small.npz"]) == 0

    printed = "".join(capsys.readouterr())
    assert "failures are of clean images alone: 2 px" in printed
    assert "any error" in printed
    assert "poses" not in printed


@pytest.mark.parametrize(("name", "known"), [("Model0", 4), ("Top", 2), ("Labels0", 0)])
def test_tables_of_failures_leave_empty_what_is_not_known(zoo, name, known, monkeypatch, capsys):
    monkeypatch.chdir(zoo.root)
    command = [
        "evaluate",
        f"python:own:{name}",
        "--failures",
        "--per-class",
        "--data",
        "npz:zoo.npz",
        "--output",
        "made",
    ]
    assert main(command) == 0
    titles, *rows = csv.reader((zoo.root / "made/failures.csv").read_text().splitlines())
    assert rows
    assert {len(row) for row in rows} == {len(titles)}
    assert {sum(cell != "" for cell in row[6:]) for row in rows} == {known}
    assert {row[5] == "" for row in rows} == {known == 0}
    said = capsys.readouterr().out
    assert "nan" not in said.lower()
    assert ("confident errors: not applicable, the predictor returns labels only" in said) == (
        known == 0
    )


def test_accept_refuses_a_predictor_in_one_sentence(zoo, capsys):
    assert main(["accept", "python:own:Model0"]) == 2
    assert (
        "python:own:Model0: not accepted, a predictor has no file of weights"
        in capsys.readouterr().err
    )
