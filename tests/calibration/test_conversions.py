"""`stress-harness calibrate --convert`: thresholds of equivalence from conversions."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from zoo import ARGUMENTS, CLASSES, EQUIVALENCE, ROWS, Zoo

from harness.base.files import hash_of_file
from harness.calibration.panel import Panel, ReferenceModel, read_panel
from harness.checks import read_checks
from harness.cli import main
from harness.measures import Unit
from harness.measures.panel.threshold import PanelCheck
from harness.networks.checkpoints import Record, load_checkpoint, save_checkpoint
from harness.perturb import PROTOCOL

CLEAN = ROWS[: ROWS.index("[[check]]", 20)]
MORE = """
[[check]]
id = "equivalence-confidence"
family = "equivalence"
metric = "confidence_moved"

[[check]]
id = "equivalence-hand"
family = "equivalence"
metric = "confidence_moved_p99"
hand = { threshold = 0.9, reason = "a test" }
"""
COMMAND = "convert {input} {output}.safetensors"
CONVERTED = ["equivalence-clean", "equivalence-confidence", "equivalence-hand"]


def shaken(source, target, *, jitter):
    """Save a model with shaken weights, by noise of its own."""
    model = load_checkpoint(Path(source)).model
    generator = torch.Generator().manual_seed(
        Path(source).stat().st_size + sum(map(ord, str(Path(source).name)))
    )
    with torch.no_grad():
        for tensor in (each for each in model.parameters() if each.ndim > 1):
            tensor.add_(jitter * tensor.std() * torch.randn(tensor.shape, generator=generator))
    save_checkpoint(Path(target), model, Record("fashion-cnn", ARGUMENTS, CLASSES))


def conversion(command):
    """Do what the commands of these tests do, and return the exit status."""
    kind, source, target = command
    if kind == "convert":
        shaken(source, target, jitter=0.01)
    elif kind == "copy-one":
        shutil.copy("seed-1.safetensors", target)
    return 3 if kind == "break" else 0


@pytest.fixture
def zoo(pytester, monkeypatch, runs):
    """The zoo with a panel of eight models, as if measured on clean images."""
    zoo = Zoo(pytester.path, tests=("clean", "equivalence"))
    zoo.bind(CLEAN + EQUIVALENCE + MORE)
    models = []
    for seed in range(1, 9):
        name = zoo.save(f"seed-{seed}.safetensors", seed=seed, jitter=0.02).name
        models.append(
            ReferenceModel(name, hash_of_file(zoo.root / name), seed, {"clean": 0.9 + seed / 1_000})
        )
    (row,) = [check for check in read_checks(zoo.checks).checks if check.id == "clean"]
    rows = (PanelCheck("clean", "clean", "accuracy", Unit.SHARE, "at_least", 400, row.definition),)
    (zoo.root / "models/panel.json").write_bytes(
        Panel(zoo.images.sha256, PROTOCOL, {}, rows, tuple(models)).as_bytes()
    )
    gate = subprocess.run

    def run(command, **how):
        if command[0] in {"convert", "copy-one", "break", "nothing"}:
            return subprocess.CompletedProcess(command, conversion(command), "said\n", "")
        if command[0] == "absent":
            raise FileNotFoundError(2, "No such file or directory")
        return gate(command, **how)

    monkeypatch.setattr(subprocess, "run", run)
    return zoo


def calibrate(*arguments) -> int:
    return main(["calibrate", *arguments, "--", "--stress-set", "data=npz:zoo.npz"])


def gate(zoo, pytester, jitter) -> tuple[int, dict[str, dict]]:
    """Run the gate on a conversion of the candidate.

    Returns the exit status, and the entries of the family.
    """
    shaken("models/augmented.safetensors", "artifact.safetensors", jitter=jitter)
    done = pytester.runpytest_inprocess(
        "-p",
        "no:html",
        "stress_tests",
        "--stress-set",
        "data=npz:zoo.npz",
        "--candidate=artifact.safetensors",
        "--original=models/augmented.safetensors",
    )
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    return done.ret, {
        each["id"]: each for each in report["checks"] if each["family"] == "equivalence"
    }


def test_conversions_set_the_thresholds_of_the_family(zoo, pytester):
    assert calibrate("--convert", COMMAND) == 0
    checks = {check.id: check for check in read_checks(zoo.checks).checks}
    assert all(checks[name].panel.conversions == COMMAND for name in CONVERTED)
    assert [checks[name].provenance for name in CONVERTED] == ["conversions", "conversions", "hand"]
    assert checks["equivalence-clean"].tolerance is None
    assert "tolerance = 0.05" in zoo.checks.read_text()
    assert not checks["clean"].panel.conversions
    panel = read_panel(zoo.root / "models/panel.json", read_checks(zoo.checks))
    assert {row.id for row in panel.checks if row.conversions} >= set(CONVERTED)
    assert all(0 < model.values["equivalence-confidence"] < 0.1 for model in panel.models)
    _, healthy = gate(zoo, pytester, 0.01)
    assert [healthy[name]["status"] for name in CONVERTED] == ["pass", "pass", "pass"]
    assert healthy["equivalence-clean"]["provenance"] == "conversions"
    assert "conversions of 8 reference models" in healthy["equivalence-clean"]["explanation"]
    status, bad = gate(zoo, pytester, 0.5)
    assert (status, bad["equivalence-confidence"]["status"]) == (1, "fail")
    zoo.checks.write_text(
        zoo.checks.read_text().replace(COMMAND, "python other.py {input} {output}")
    )
    assert gate(zoo, pytester, 0.01)[0] == 4, "an edited command is not the one that converted"


def thresholds(zoo):
    return {
        check.id: check.panel
        for check in read_checks(zoo.checks).checks
        if check.family == "equivalence"
    }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("convert {input}", "has no {output}"),
        ("convert {output}", "has no {input}"),
        ("convert '{input} {output}", "is no command"),
        ("break {input} {output}", "ended with exit status 3\nsaid"),
        ("nothing {input} {output}", "wrote no 001.onnx"),
        ("absent {input} {output}", "absent: cannot be started"),
        ("copy-one {input} {output}.safetensors", "are converted to the same file"),
    ],
)
def test_a_command_that_does_not_convert_is_an_error(zoo, capsys, command, said):
    before = zoo.checks.read_bytes()
    assert calibrate("--convert", command) == 2
    assert said in capsys.readouterr().err
    assert zoo.checks.read_bytes() == before


@pytest.mark.parametrize("more", [["--family", "clean"], ["--plan"], ["--budget", "3m"]])
def test_conversions_take_no_other_choice(zoo, capsys, more):
    assert calibrate("--convert", COMMAND, *more) == 2
    assert "--convert" in capsys.readouterr().err


def test_the_gate_says_how_to_get_a_threshold_that_outlives_a_calibration(zoo, pytester):
    """Not one of other models: their conversions are dropped."""
    _, found = gate(zoo, pytester, 0.01)
    assert (
        "`stress-harness calibrate --convert COMMAND` makes one"
        in found["equivalence-confidence"]["explanation"]
    )
    assert calibrate("--convert", COMMAND) == 0
    before, seeds = thresholds(zoo), [f"seed-{seed}.safetensors" for seed in range(1, 9)]
    assert calibrate("--checkpoints", *seeds) == 0
    assert thresholds(zoo) == before
    assert calibrate("--checkpoints", *seeds[:3]) == 0
    checks = {check.id: check for check in read_checks(zoo.checks).checks}
    assert (checks["equivalence-clean"].panel, checks["equivalence-clean"].provenance) == (
        None,
        "hand",
    )
