"""`python -m harness accept`: the gate decides, and what it accepted is what later candidates are held against."""

import json
import re
import subprocess
from datetime import datetime

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from zoo import ARGUMENTS, CLASSES, ROWS, TRAINING, Zoo, hypothesis_as_it_starts, in_this_process, network

from harness.cli import main
from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint

REGRESSION = """
[[gate]]
id = "regression-clean"
family = "regression"
metric = "accuracy_change"
significance = 0.001
hand = { bound = -0.01 }
"""


@pytest.fixture
def zoo(pytester, monkeypatch, tmp_path):
    zoo = Zoo(pytester.path, tests=("clean", "rotation", "confident_errors", "regression"))
    zoo.bind(ROWS + REGRESSION)
    zoo.runs = []
    zoo.incumbent = zoo.root / "models/incumbent.safetensors"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", in_this_process(pytester, zoo.runs))
    with hypothesis_as_it_starts():
        yield zoo


def accept(zoo, *arguments, options=()) -> int:
    return main(["accept", *map(str, arguments), "--", "--stress-data", zoo.data, *options])


def gate_run(zoo, pytester, candidate, *options):
    arguments = ("--candidate", str(candidate), "--stress-data", zoo.data, *options)
    result = pytester.runpytest_inprocess("stress_tests", *arguments)
    return result, json.loads((zoo.root / "reports/stress.json").read_text())


def regression(report):
    (gate,) = (gate for gate in report["gates"] if gate["id"] == "regression-clean")
    return gate


# The decision.


def test_a_candidate_that_passes_becomes_the_incumbent(zoo, capsys):
    candidate = zoo.save("new.safetensors", seed=3, jitter=0.02, training=TRAINING)
    before = datetime.now().astimezone()
    assert accept(zoo, "new.safetensors") == 0
    assert "new.safetensors: accepted, models/incumbent.safetensors is the incumbent now" in capsys.readouterr().out
    accepted, given = load_checkpoint(zoo.incumbent), load_checkpoint(candidate)
    record = accepted.record
    assert (record.architecture, record.arguments, record.training) == ("fashion-cnn", ARGUMENTS, TRAINING)
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    acceptance = dict(record.acceptance)
    date = datetime.fromisoformat(acceptance.pop("date"))
    assert abs((date - before).total_seconds()) < 600
    assert acceptance == {
        "profile": "default",
        "verdict": "pass",
        "forced": False,
        "gates_sha256": report["gates_sha256"],
        "data_sha256": zoo.images.sha256,
        "candidate_sha256": given.sha256,
    }
    assert accepted.model_sha256 == given.model_sha256
    logits = [Classifier(checkpoint.model, workers=1).predict(zoo.images).logits for checkpoint in (accepted, given)]
    assert np.array_equal(*logits)


def test_the_run_is_the_gates_own_on_the_candidate_with_the_options_given(zoo):
    zoo.save("new.safetensors")
    assert accept(zoo, "new.safetensors", options=("--baseline", "none")) == 0
    (command,) = zoo.runs
    assert command[:5] == ["stress_tests", "--gates", "stress_tests/gates.toml", "--candidate", "new.safetensors"]
    assert command[-4:] == ["--stress-data", zoo.data, "--baseline", "none"]
    assert "--stress-record" not in command


def test_a_candidate_that_fails_is_refused_and_nothing_is_written(zoo, capsys):
    zoo.save("worse.safetensors", jitter=3.0)
    assert accept(zoo, "worse.safetensors") == 1
    assert "worse.safetensors: not accepted, the verdict is fail; --force accepts it" in capsys.readouterr().out
    assert not zoo.incumbent.exists()


def test_a_refusal_leaves_the_incumbent_as_it_is(zoo):
    assert accept(zoo, "models/augmented.safetensors") == 0
    before = zoo.incumbent.read_bytes()
    zoo.save("worse.safetensors", jitter=3.0)
    assert accept(zoo, "worse.safetensors") == 1
    assert zoo.incumbent.read_bytes() == before


def test_a_candidate_is_held_against_the_file_that_it_would_replace(zoo, capsys):
    zoo.save("prod.safetensors")
    before = (zoo.root / "prod.safetensors").read_bytes()
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    assert accept(zoo, "worse.safetensors", "--incumbent", "prod.safetensors") == 1
    assert "not accepted, the verdict is fail" in capsys.readouterr().out
    assert regression(json.loads((zoo.root / "reports/stress.json").read_text()))["status"] == "fail"
    assert (zoo.root / "prod.safetensors").read_bytes() == before


def test_a_candidate_that_fails_is_accepted_by_force_and_the_record_says_so(zoo, capsys):
    candidate = zoo.save("worse.safetensors", jitter=3.0)
    assert accept(zoo, "--force", "worse.safetensors") == 0
    assert "worse.safetensors: accepted by force" in capsys.readouterr().out
    accepted = load_checkpoint(zoo.incumbent)
    assert (accepted.record.acceptance["forced"], accepted.record.acceptance["verdict"]) == (True, "fail")
    assert accepted.model_sha256 == load_checkpoint(candidate).model_sha256


@pytest.mark.parametrize(
    "options",
    [("--stress-samples", "20"), ("-k", "clean")],
    ids=["samples", "k"],
)
def test_a_partial_verdict_is_none(zoo, capsys, options):
    assert accept(zoo, "models/augmented.safetensors", options=options) == 1
    assert "not accepted, the verdict is partial" in capsys.readouterr().out
    assert not zoo.incumbent.exists()


def accept_quick(zoo, *arguments) -> int:
    """Accept what passes the quick profile's own gates, which are made for 100 images."""
    quick = zoo.gates.with_name("gates-quick.toml")
    quick.write_text(zoo.gates.read_text().replace("n = 400\n", "n = 400\nsample = 100\n"))
    named = ("--gates", quick.relative_to(zoo.root), "models/augmented.safetensors")
    return accept(zoo, *arguments, *named, options=("--stress-profile", "quick"))


def test_a_pass_of_the_quick_profile_is_none(zoo, capsys):
    assert accept_quick(zoo) == 1
    assert "not accepted, the verdict is pass of the quick profile, which leaves much out" in capsys.readouterr().out
    assert not zoo.incumbent.exists()


def test_a_pass_of_the_quick_profile_can_be_forced_and_the_record_says_so(zoo):
    assert accept_quick(zoo, "--force") == 0
    acceptance = load_checkpoint(zoo.incumbent).record.acceptance
    assert (acceptance["forced"], acceptance["verdict"], acceptance["profile"]) == (True, "pass", "quick")


def test_a_partial_verdict_can_be_forced(zoo):
    assert accept(zoo, "--force", "models/augmented.safetensors", options=("--stress-samples", "40")) == 0
    acceptance = load_checkpoint(zoo.incumbent).record.acceptance
    assert (acceptance["forced"], acceptance["verdict"]) == (True, "partial")


@pytest.mark.parametrize(
    "arguments",
    [("--force", "a.safetensors"), ("a.safetensors", "--force"), ("a.safetensors", "--incumbent", "b.safetensors")],
    ids=["force-first", "force-last", "incumbent-last"],
)
def test_options_may_stand_before_and_after_the_checkpoint(zoo, arguments):
    zoo.save("a.safetensors")
    assert accept(zoo, *arguments) == 0
    (written,) = [*zoo.incumbent.parent.glob("incumbent.*"), *zoo.root.glob("b.*")]
    assert load_checkpoint(written).record.acceptance["forced"] is False, "it passes without"


def test_the_incumbent_may_be_another_file(zoo):
    assert accept(zoo, "--incumbent", "elsewhere/best.safetensors", "models/augmented.safetensors") == 0
    assert load_checkpoint(zoo.root / "elsewhere/best.safetensors").record.acceptance["verdict"] == "pass"
    assert not zoo.incumbent.exists()


# What cannot be judged.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda zoo: (zoo.root / "new.safetensors").write_bytes(b"not a checkpoint"),
        lambda zoo: (zoo.root / "new.safetensors").unlink(),
        lambda zoo: zoo.bind(ROWS.replace("0.85", "1.85")),
        lambda zoo: zoo.bind(ROWS.replace("0.85", "0.0")),
        lambda zoo: (zoo.tests / "test_own.py").write_text("def test_own():\n    raise OSError('lost')\n"),
        lambda zoo: zoo.gates.unlink(),
    ],
    ids=["garbage", "missing", "bad-gates", "a-gate-that-cannot-fail", "a-broken-test", "no-gates"],
)
def test_what_cannot_be_judged_ends_with_2_by_force_too_and_writes_nothing(zoo, capsys, spoil):
    zoo.save("new.safetensors")
    spoil(zoo)
    assert accept(zoo, "--force", "new.safetensors") == 2
    assert "error: new.safetensors: not accepted, the gate could not judge it" in capsys.readouterr().err
    assert not zoo.incumbent.exists()


def test_a_report_of_an_earlier_run_is_not_taken_for_this_one(zoo):
    assert accept(zoo, "models/augmented.safetensors") == 0
    zoo.incumbent.unlink()
    assert accept(zoo, "models/augmented.safetensors", options=("--collect-only",)) == 2
    assert not zoo.incumbent.exists()


def test_a_file_that_changes_while_the_gate_runs_is_not_accepted(zoo, monkeypatch, capsys):
    zoo.save("new.safetensors")
    run = subprocess.run

    def run_and_swap(command, **facts):
        done = run(command, **facts)
        zoo.save("new.safetensors", jitter=3.0)
        return done

    monkeypatch.setattr(subprocess, "run", run_and_swap)
    assert accept(zoo, "new.safetensors") == 2
    assert "changed while the gate ran" in capsys.readouterr().err
    assert not zoo.incumbent.exists()


# What comes after.


def test_the_accepted_checkpoint_is_not_held_against_itself(zoo, pytester):
    zoo.save("new.safetensors", seed=3, jitter=0.02)
    assert accept(zoo, "new.safetensors") == 0
    result, report = gate_run(zoo, pytester, "new.safetensors", "--incumbent", zoo.incumbent)
    assert (result.ret, report["verdict"]) == (0, "pass")
    assert (regression(report)["status"], regression(report)["detail"]) == (
        "not_applicable",
        "the candidate is the incumbent",
    )
    assert "flips" not in regression(report)


def test_another_candidate_is_held_against_it_image_by_image(zoo, pytester):
    assert accept(zoo, "models/augmented.safetensors") == 0
    zoo.save("other.safetensors", seed=3, jitter=0.05)
    result, report = gate_run(zoo, pytester, "other.safetensors", "--incumbent", zoo.incumbent)
    before, after = (
        Classifier(network(**facts), workers=1).predict(zoo.images).correct
        for facts in ({}, {"seed": 3, "jitter": 0.05})
    )
    lost, gained = np.flatnonzero(before & ~after).tolist(), np.flatnonzero(after & ~before).tolist()
    assert lost, "the networks differ"
    changed = regression(report)["flips"]
    assert (changed["new_failures"], changed["fixed_failures"]) == (lost, gained)
    assert regression(report)["value"] == pytest.approx((len(gained) - len(lost)) / 400)
    line = f"against the incumbent: {len(lost)} new failures, {len(gained)} fixed, net *"
    result.stdout.fnmatch_lines([line])
    html = (zoo.root / "reports/stress.html").read_text()
    assert "Against the incumbent" in html
    assert ", ".join(map(str, lost)) in html


def test_a_significant_loss_against_it_fails_and_one_by_chance_does_not(zoo, pytester):
    rows = re.sub("hand = .*", "", ROWS) + REGRESSION
    zoo.bind(ROWS + REGRESSION)
    assert accept(zoo, "models/augmented.safetensors") == 0
    zoo.bind(rows)
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    result, report = gate_run(zoo, pytester, "worse.safetensors", "--incumbent", zoo.incumbent)
    assert (result.ret, report["verdict"], regression(report)["status"]) == (1, "fail", "fail")
    zoo.save("a-little.safetensors", jitter=0.1, seed=3)
    result, report = gate_run(zoo, pytester, "a-little.safetensors", "--incumbent", zoo.incumbent)
    assert regression(report)["value"] < -0.01
    assert (result.ret, regression(report)["status"]) == (0, "pass")
    assert "chance may explain" in regression(report)["explanation"]


def test_a_network_of_the_users_own_is_accepted_and_loaded_by_its_builder(zoo, pytester):
    torch.save(network().state_dict(), zoo.root / "own.pth")
    own = ["--stress-model", "harness.networks.architectures:FashionCNN"]
    for name, value in ARGUMENTS.items():
        own += ["--stress-model-arg", f"{name}={value!r}"]
    assert accept(zoo, "own.pth", options=own) == 0
    accepted = load_checkpoint(zoo.incumbent, builder=lambda: network(jitter=1.0))
    assert (accepted.record.architecture, accepted.record.classes) == ("user", CLASSES)
    assert accepted.record.acceptance["verdict"] == "pass"
    result, report = gate_run(zoo, pytester, "own.pth", "--incumbent", zoo.incumbent, *own)
    assert (result.ret, regression(report)["status"]) == (0, "not_applicable")


def test_accept_runs_pytest_in_a_process_of_its_own(zoo, monkeypatch, capfd):
    """The whole way, once."""
    monkeypatch.undo()
    monkeypatch.chdir(zoo.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(zoo.root / "cache"))
    assert accept(zoo, "models/augmented.safetensors") == 0
    assert load_checkpoint(zoo.incumbent).record.acceptance["verdict"] == "pass"
    printed = capfd.readouterr().out
    assert "model quality gate" in printed
    assert printed.rstrip().endswith("models/incumbent.safetensors is the incumbent now")


def test_an_onnx_file_cannot_be_an_incumbent(zoo, capsys):
    (zoo.root / "model.onnx").touch()
    assert accept(zoo, zoo.root / "model.onnx") == 2
    assert "accept the one that the ONNX file was exported from" in capsys.readouterr().err
    assert zoo.runs == []
