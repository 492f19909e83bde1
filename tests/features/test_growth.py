"""A gate from one model: `init` calibrates by it, and accepted models join its panel."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo import CLASSES, Zoo, images_of, network

from harness.calibration import growth
from harness.calibration.calibrate import CalibrationRequest
from harness.calibration.growth import fewest_changes, kept_for_panel
from harness.calibration.panel import Panel, ReferenceModel, read_panel
from harness.checks import read_checks
from harness.cli import main
from harness.run.settings import ModelSettings

pytestmark = pytest.mark.usefixtures("unchecked")
CHECKS, PANEL = Path("stress_tests/checks.toml"), Path("models/panel.json")
APART = 0.05
"""Noise on weights with which networks err on other images, as two trainings do."""


@pytest.fixture
def zoo(pytester, monkeypatch, runs):
    zoo = Zoo(pytester.path)
    monkeypatch.chdir(zoo.root)
    shutil.rmtree(zoo.tests)
    quick = "-p no:cacheprovider -p no:html --stress-set=no_overview=true"
    (zoo.root / "pytest.ini").write_text(f"[pytest]\naddopts = {quick}\n")
    save_images(4_000)  # With fewer, one model gives no threshold.
    (zoo.root / "models/augmented.safetensors").unlink()
    return zoo


def save_images(count: int) -> None:
    images = images_of(count)
    arrays = {
        "images": images.pixels[:, 0].numpy(),
        "labels": images.labels.numpy(),
        "classes": np.array(CLASSES),
    }
    np.savez("zoo.npz", **arrays)


def init(*arguments) -> int:
    made = ("--data", "npz:zoo.npz", "--budget", "none", "--families", "clean,rotation")
    return main(["init", *made, "--checkpoint", "runs/1.safetensors", *arguments])


def members() -> list[str]:
    return [model.path for model in read_panel(PANEL, read_checks(CHECKS)).models]


def with_threshold() -> set[str]:
    return {check.id for check in read_checks(CHECKS).checks if check.binding}


def test_the_panel_of_a_new_gate_grows_by_accepted_retrainings(zoo, capsys):
    models = [zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed) for seed in range(4)]
    assert init() == 0
    said = capsys.readouterr().out
    steps = said.partition("next:")[2]
    assert "  stress-harness accept --provisional FILE    # a retraining that passes joins" in steps
    assert (
        "  stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more set the thresholds"
        in steps
    )
    (first,) = members()
    assert re.fullmatch(r"models/panel/accepted-[0-9a-f]{12}\.safetensors", first)
    assert Path(first).read_bytes() == models[1].read_bytes()
    assert "clean" in with_threshold()

    models[1].unlink()  # The panel has its own copy.
    for seed in (2, 3):
        assert main(["accept", "--provisional", f"runs/{seed}.safetensors"]) == 0, (
            capsys.readouterr().out
        )
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
    assert re.search(r"; expected at least [1-9]\d*, as between two trainings", said)
    assert (CHECKS.read_bytes(), sorted(Path("models/panel").iterdir())) == (before, copies)


def test_a_calibration_that_a_crash_interrupts_is_finished(zoo, capsys):
    for seed in (1, 2, 3):
        zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed)
    assert init() == 0
    before = CHECKS.read_bytes()
    assert main(["accept", "--provisional", "runs/2.safetensors"]) == 0
    whole, panel = CHECKS.read_bytes(), PANEL.read_bytes()
    CHECKS.write_bytes(before)  # As after a crash between the panel and the checks file.
    capsys.readouterr()
    assert main(["accept", "--provisional", "runs/2.safetensors"]) == 0
    assert (
        "the thresholds of stress_tests/checks.toml came from 1; they are set anew"
        in capsys.readouterr().out
    )
    assert (CHECKS.read_bytes(), len(members())) == (whole, 2)
    assert PANEL.read_bytes() == panel
    assert main(["accept", "--provisional", "runs/3.safetensors"]) == 0
    assert "interrupted" not in capsys.readouterr().out
    assert len(members()) == 3


def test_a_gate_without_a_threshold_names_no_step_that_cannot_pass(zoo, capsys):
    zoo.save("runs/1.safetensors", jitter=APART, seed=1)
    save_images(6)  # A threshold on so few cannot fail.
    assert init() == 0
    assert (len(members()), with_threshold()) == (1, set())
    said = capsys.readouterr().out.partition("next:")[2]
    assert "accept" not in said
    assert "--min-accuracy" in said
    assert "stress-harness calibrate --checkpoints FILE FILE" in said


def test_an_informational_check_counts_once_it_has_a_threshold_that_binds(zoo, monkeypatch):
    zoo.save("runs/1.safetensors", jitter=APART, seed=1)
    zoo.save(
        "runs/2.safetensors", jitter=10 * APART, seed=2
    )  # It errs on other ones of so few images.
    save_images(6)  # A threshold on so few cannot fail.
    assert init() == 0
    assert not with_threshold()
    binding = re.sub("(?m)^informational = .*\n", "", CHECKS.read_text())

    def calibrated(_) -> list[str]:
        CHECKS.write_text(binding)
        return []

    monkeypatch.setattr(growth, "calibrate", calibrated)
    settings = ModelSettings(data="npz:zoo.npz")
    (said,) = growth.grow(
        Path("runs/2.safetensors"), CalibrationRequest(CHECKS), settings, wanted=None
    )
    assert with_threshold()
    assert f"; {len(with_threshold())} checks got a threshold: clean" in said


@pytest.mark.filterwarnings("ignore")
def test_a_model_with_weights_in_other_files_is_calibrated_where_it_lies(zoo, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    dynamic = {"input_names": ["input"], "dynamic_axes": {"input": {0: "n"}}, "dynamo": False}
    torch.onnx.export(
        network(jitter=APART, seed=1), (torch.zeros(1, 1, 16, 16),), "whole.onnx", **dynamic
    )
    onnx.save_model(
        onnx.load("whole.onnx"),
        "apart.onnx",
        save_as_external_data=True,
        location="parts.data",
        size_threshold=0,
    )
    assert init("--checkpoint", "apart.onnx") == 0
    assert members() == ["apart.onnx"]
    assert "accept --provisional" not in capsys.readouterr().out
    assert not Path("models/panel").exists()


@pytest.mark.parametrize(
    ("models", "errors", "own", "least"),
    [
        (4, 45, 4, 45 / 8),  # Trainings on digits differ in 8 predictions or more.
        (2, 750, 200, 200),  # A copy with noise on its weights differs in 150.
        (1, 750, 0, 750 / 8),  # A quantized one differs in 67.
        (1, 2, 0, 1),
    ],
)
def test_a_copy_changes_fewer_predictions_than_a_training(models, errors, own, least):
    predicted = np.zeros((models, 4_000), dtype=np.int64)
    predicted[:, : errors - own] = 1
    for at, row in enumerate(predicted):
        row[1_000 + at * own : 1_000 + (at + 1) * own] = 1
    assert fewest_changes(predicted, np.zeros(4_000)) == least


@pytest.mark.parametrize(("named", "there"), [(False, False), (True, False), (False, True)])
def test_an_error_removes_a_new_copy_that_the_panel_does_not_name(tmp_path, named, there):
    (model := tmp_path / "new.safetensors").write_bytes(b"weights")
    panel = tmp_path / "models/panel.json"

    def fail():
        with kept_for_panel(model, panel) as copy:
            if named:
                models = (ReferenceModel(copy.as_posix(), "", 1, {}),)
                panel.write_bytes(Panel("", 1, {}, (), models).as_bytes())
            raise KeyboardInterrupt

    if there:
        with kept_for_panel(model, panel):
            pass
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len([*panel.with_suffix("").iterdir()]) == int(named or there)


def test_another_panel_grows_only_when_asked(zoo, capsys):
    for seed in range(1, 4):
        zoo.save(f"runs/{seed}.safetensors", jitter=APART, seed=seed)
    assert init("--no-calibrate") == 0
    assert not with_threshold()
    assert "stress-harness calibrate --checkpoints FILE FILE" in capsys.readouterr().out
    assert init() == 0, "after an interruption, too"
    assert "stress-harness calibrate --checkpoints runs/1.safetensors" in capsys.readouterr().out
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
