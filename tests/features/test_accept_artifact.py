"""`stress-harness accept` of an ONNX file: equal to its original, it is the incumbent, kept as a copy of the file."""

import hashlib
import json
import subprocess
import tomllib
import warnings

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from zoo import CLEAN, EQUIVALENCE, REGRESSION, Zoo, hypothesis_as_it_starts, network, run_here

from harness.checks.declaration import pending_of
from harness.cli import main

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ORIGINAL = "models/augmented.safetensors"


@pytest.fixture
def zoo(pytester, monkeypatch):
    zoo = Zoo(pytester.path, tests=("clean", "regression", "equivalence"))
    zoo.bind(CLEAN + REGRESSION + EQUIVALENCE)
    zoo.runs = []
    zoo.incumbent, zoo.declaration = zoo.root / "models/incumbent.onnx", zoo.root / "models/incumbent.toml"
    started = subprocess.run
    run_here(monkeypatch, pytester, zoo.runs)
    here = subprocess.run

    def run(command, **how):  # An ONNX file is tried in a process of its own, as ever.
        return here(command, **how) if "stress_tests" in command else started(command, **how)

    monkeypatch.setattr(subprocess, "run", run)
    with hypothesis_as_it_starts():
        yield zoo


def export(zoo, name="new.onnx", **how):
    path, size = zoo.root / name, {"input": {0: "n"}, "output": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(**how),
            (torch.zeros(1, 1, 16, 16),),
            str(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=size,
            dynamo=False,
        )
    return path


def accept(zoo, *arguments, original=ORIGINAL) -> int:
    named = () if original is None else ("--original", original)
    return main(["accept", *map(str, arguments), *named, "--", "--stress-set", f"data={zoo.data}"])


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_that_is_equal_is_copied_and_both_hashes_are_kept(zoo, capsys):
    file = export(zoo)
    assert accept(zoo, "new.onnx") == 0
    assert "new.onnx: accepted, models/incumbent.onnx is the last accepted model" in capsys.readouterr().out
    assert zoo.incumbent.read_bytes() == file.read_bytes()
    declared = tomllib.loads(zoo.declaration.read_text())
    assert (declared["file"], declared["sha256"]) == ("incumbent.onnx", sha256(file))
    acceptance, report = declared["acceptance"], json.loads((zoo.root / "reports/stress.json").read_text())
    assert acceptance["candidate_sha256"] == sha256(file)
    assert acceptance["original_sha256"] == report["original"]["sha256"] == sha256(zoo.root / ORIGINAL)
    assert acceptance["original"].endswith(ORIGINAL)
    assert (acceptance["verdict"], acceptance["forced"]) == ("pass", False)
    assert acceptance["checks"] == ["clean", "equivalence-clean"]


def test_later_candidates_are_compared_with_it(zoo, pytester):
    export(zoo)
    assert accept(zoo, "new.onnx") == 0
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    options = ("--candidate", "worse.safetensors", "--stress-set", f"data={zoo.data}", "-p", "no:html")
    assert pytester.runpytest_inprocess("stress_tests", *options).ret == 1
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    assert report["incumbent"]["path"].endswith("models/incumbent.onnx")
    assert {check["id"]: check["status"] for check in report["checks"]}["regression-clean"] == "fail"
    assert report["notices"] == []


def test_checks_that_it_was_accepted_by_and_are_gone_are_named(zoo, pytester):
    export(zoo)
    assert accept(zoo, "new.onnx") == 0
    zoo.bind(CLEAN + REGRESSION)
    result = pytester.runpytest_inprocess("stress_tests", "--stress-set", f"data={zoo.data}", "-p", "no:html")
    result.stdout.fnmatch_lines(["1 checks that the last accepted model (incumbent) was accepted by are not in *"])
    result.stdout.fnmatch_lines(["*checks.toml: equivalence-clean"])


def test_a_checkpoint_replaces_it_after_a_comparison_with_it(zoo):
    export(zoo)
    assert accept(zoo, "new.onnx") == 0
    zoo.save("next.safetensors", seed=3, jitter=0.01)
    assert accept(zoo, "next.safetensors", original=None) == 0
    assert "models/incumbent.onnx" in " ".join(zoo.runs[-1])
    declared = tomllib.loads(zoo.declaration.read_text())
    assert declared["file"] == "incumbent.safetensors"
    assert "acceptance" not in declared


@pytest.mark.parametrize(
    ("checks", "status", "said"),
    [
        (CLEAN + EQUIVALENCE, 1, "not accepted, the verdict is fail"),
        (CLEAN + EQUIVALENCE.replace("0.05", "0.0001"), 2, "the gate is inconclusive (exit status 4)"),
        (CLEAN, 1, "no check shows that it is equal to models/augmented.safetensors"),
        (
            CLEAN + EQUIVALENCE.replace('tolerance = 0.05\nreason = "a test"\n', ""),
            1,
            "no check shows that it is equal",
        ),
    ],
    ids=["different", "cannot-tell", "unchecked", "informational"],
)
def test_one_that_is_not_shown_to_be_equal_is_not_accepted(zoo, capsys, checks, status, said):
    zoo.bind(checks)
    export(zoo, jitter=0.5 if "fail" in said else 0.0, seed=4)
    assert accept(zoo, "new.onnx") == status
    told = capsys.readouterr()
    assert said in told.out + told.err
    assert not zoo.incumbent.exists()
    assert not zoo.declaration.exists()


def test_where_all_models_are_onnx_files_it_needs_no_original(zoo):
    zoo.bind(CLEAN + REGRESSION)
    path = export(zoo)
    assert accept(zoo, "new.onnx", original=None) == 0
    assert zoo.incumbent.read_bytes() == path.read_bytes()
    assert "original" not in tomllib.loads(zoo.declaration.read_text())["acceptance"]


def test_beside_checkpoints_it_is_refused_without_its_original(zoo, capsys):
    export(zoo)
    zoo.incumbent.with_suffix(".safetensors").write_bytes((zoo.root / ORIGINAL).read_bytes())
    assert accept(zoo, "new.onnx", original=None) == 2
    assert "with the model that it was made from; name that: --original MODEL" in capsys.readouterr().err
    assert zoo.runs == []


def test_weights_in_another_file_are_refused_before_a_run(zoo, capsys):
    file = export(zoo)
    onnx.save_model(
        onnx.load(file), zoo.root / "parts.onnx", save_as_external_data=True, location="parts.data", size_threshold=0
    )
    assert accept(zoo, "parts.onnx") == 2
    assert "read from parts.data, beside it, and an incumbent is one file" in capsys.readouterr().err
    assert zoo.runs == []


def test_a_file_that_is_no_onnx_file_is_not_replaced(zoo, capsys):
    export(zoo)
    zoo.incumbent.write_text("notes")
    assert accept(zoo, "new.onnx") == 2
    assert "exists and is not an ONNX file" in capsys.readouterr().err
    assert zoo.incumbent.read_text() == "notes"


def test_an_original_that_changes_meanwhile_ends_the_acceptance(zoo, monkeypatch, capsys):
    export(zoo)
    as_it_is = subprocess.run

    def run(command, **how):
        done = as_it_is(command, **how)
        if "stress_tests" in command:
            zoo.save(ORIGINAL, seed=7, jitter=0.01)
        return done

    monkeypatch.setattr(subprocess, "run", run)
    assert accept(zoo, "new.onnx") == 2
    assert "changed while the gate ran" in capsys.readouterr().err
    assert not zoo.declaration.exists()


def test_an_interrupted_acceptance_is_completed_by_the_next(zoo):
    export(zoo)
    assert accept(zoo, "new.onnx") == 0
    zoo.incumbent.rename(pending_of(zoo.incumbent))
    assert accept(zoo, "new.onnx") == 0
    assert zoo.incumbent.exists()
    assert not pending_of(zoo.incumbent).exists()


def test_a_checkpoint_with_its_original_keeps_both_hashes_too(zoo):
    zoo.save("pruned.safetensors", seed=3, jitter=0.001)
    assert accept(zoo, "pruned.safetensors") == 0
    declared = tomllib.loads(zoo.declaration.read_text())
    assert declared["file"] == "incumbent.safetensors"
    assert declared["acceptance"]["original_sha256"] == sha256(zoo.root / ORIGINAL)
