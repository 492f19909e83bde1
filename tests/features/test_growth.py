"""A gate made from one model: `init` calibrates by it, and accepted retrainings join its reference panel."""

import re
import shutil
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules.
import numpy as np
import pytest
import scipy.stats  # noqa: F401
from zoo import CLASSES, Zoo, hypothesis_as_it_starts, images_of, run_here

from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.cli import main

CHECKS, PANEL = Path("stress_tests/checks.toml"), Path("models/panel.json")
APART = 0.05
"""Noise on weights with which networks err on other images, as two trainings do."""


@pytest.fixture
def zoo(pytester, monkeypatch, tmp_path_factory):
    zoo = Zoo(pytester.path)
    monkeypatch.chdir(zoo.root)
    shutil.rmtree(zoo.tests)
    images = images_of(4_000)  # With fewer, one model gives no threshold.
    arrays = {"images": images.pixels[:, 0].numpy(), "labels": images.labels.numpy(), "classes": np.array(CLASSES)}
    np.savez("zoo.npz", **arrays)
    (zoo.root / "models/augmented.safetensors").unlink()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    run_here(monkeypatch, pytester, [])
    with hypothesis_as_it_starts():
        yield zoo


def init(*arguments) -> int:
    made = ("--data", "npz:zoo.npz", "--budget", "none", "--families", "clean,rotation")
    return main(["init", *made, "--checkpoint", "runs/1.safetensors", *arguments])


def members() -> list[str]:
    return [model.path for model in read_panel(PANEL, read_checks(CHECKS)).models]


def with_threshold() -> set[str]:
    return {check.id for check in read_checks(CHECKS).checks if check.panel}


def test_the_panel_of_a_new_gate_grows_by_accepted_retrainings(zoo, capsys):
    models = [zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed) for seed in range(4)]
    assert init() == 0
    said = capsys.readouterr().out
    assert "stress-harness accept --provisional FILE" in said
    (first,) = members()
    assert re.fullmatch(r"models/panel/accepted-[0-9a-f]{12}\.safetensors", first)
    assert Path(first).read_bytes() == models[1].read_bytes()
    assert "clean" in with_threshold()

    models[1].unlink()  # The panel has its own copy.
    for seed in (2, 3):
        assert main(["accept", "--provisional", f"runs/{seed}.safetensors"]) == 0, capsys.readouterr().out
        said = capsys.readouterr().out
        assert f"the panel has {seed} reference models now" in said
        assert len(members()) == seed
    assert "clean" in with_threshold()

    before, copies = CHECKS.read_bytes(), sorted(Path("models/panel").iterdir())
    assert main(["accept", "--no-grow-panel", "runs/0.safetensors"]) == 0, capsys.readouterr().out
    assert main(["accept", "runs/3.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "the reference panel is unchanged: " in said
    assert "no reference model, since only 0 of 4000 predictions differ" in said
    assert (CHECKS.read_bytes(), sorted(Path("models/panel").iterdir())) == (before, copies)


def test_another_panel_grows_only_when_asked(zoo, capsys):
    for seed in range(1, 4):
        zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed)
    assert init("--no-calibrate") == 0
    assert not with_threshold()
    assert "stress-harness calibrate --checkpoints" in capsys.readouterr().out
    assert main(["calibrate", "--checkpoints", "runs/1.safetensors"]) == 0
    assert main(["accept", "--provisional", "runs/2.safetensors"]) == 0
    assert members() == ["runs/1.safetensors"]
    assert main(["accept", "--provisional", "--grow-panel", "runs/3.safetensors"]) == 0
    assert len(members()) == 2


def test_a_panel_that_cannot_grow_undoes_no_acceptance(zoo, capsys):
    for seed in (1, 2):
        zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed)
    assert init() == 0
    Path(members()[0]).unlink()
    assert main(["accept", "--provisional", "runs/2.safetensors"]) == 0
    assert "the reference panel is unchanged: " in capsys.readouterr().out
    assert len(members()) == 1
