"""`stress-harness accept`: the gate decides about the model of later comparisons."""

import hashlib
import json
import re
import threading
import time
import tomllib
import warnings
from dataclasses import replace
from datetime import datetime
from functools import cache

import numpy as np
import pytest
import torch
from outcomes import EMPTY, outcome_with, verdict
from zoo import (
    ARGUMENTS,
    CLASSES,
    CLEAN,
    EQUIVALENCE,
    REGRESSION,
    ROWS,
    TRAINING,
    Zoo,
    network,
)

from harness.checks import Check
from harness.checks.declaration import pending_of
from harness.cli import main
from harness.inference import Classifier
from harness.measures.changed_predictions import PREDICTIONS_CHANGED
from harness.measures.equivalence import proportion
from harness.measures.metric import Measurement
from harness.networks.checkpoints import load_checkpoint
from harness.run.findings import SelfCheck
from harness.run.result import RunResult
from harness.run.stress_json import record_and_images

pytestmark = pytest.mark.usefixtures("unchecked")
ORIGINAL = "models/augmented.safetensors"


def accept(place, *arguments, options=()) -> int:
    return main(
        ["accept", *map(str, arguments), "--", "--stress-set", f"data={place.data}", *options]
    )


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _exported(jitter) -> bytes:
    import io

    size, content = {"input": {0: "n"}, "output": {0: "n"}}, io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {
            "input_names": ["input"],
            "output_names": ["output"],
            "dynamic_axes": size,
            "dynamo": False,
        }
        torch.onnx.export(network(jitter=jitter), (torch.zeros(1, 1, 16, 16),), content, **names)
    return content.getvalue()


def export(place, *, jitter=0.0):
    """Write new.onnx."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (place.root / "new.onnx").write_bytes(_exported(jitter))
    return place.root / "new.onnx"


# Verdicts and their consequences; the gate's own run is made up.


def compared(changed):
    """Return the verdict on an export that changes the predictions of some of 1,000 images."""
    quantity = proportion(changed, 1_000)
    measured = Measurement(
        PREDICTIONS_CHANGED, quantity.value, 1_000, (0.0, 1.0), quantity=quantity
    )
    check = Check("clean", "equivalence", PREDICTIONS_CHANGED.name, role="original", tolerance=0.05)
    return check.judge(measured)


EQUAL, DIFFERENT = compared(0), compared(200)
CLEAN_PASSES = verdict("pass", value=0.9)
FAILS, ERRS = {"verdicts": (DIFFERENT,)}, {"errors": ("the data changed",)}
INFORMATIONAL = replace(
    EQUAL, check=replace(EQUAL.check, tolerance=None), status="informational", threshold=None
)
BY_ONE_MODEL = replace(CLEAN_PASSES.check.panel, reference_models=1)
PROVISIONAL = replace(CLEAN_PASSES, check=replace(CLEAN_PASSES.check, panel=BY_ONE_MODEL))


class Judged(Zoo):
    """A repository whose gate `says` an exit status and facts of its report.

    `meanwhile` happens before.
    """

    def __init__(self, root) -> None:
        super().__init__(root)
        self.incumbent = root / "models/incumbent.safetensors"
        self.runs, self.says, self.meanwhile = [], (0, {}), lambda: None
        self.edited = lambda report: report

    def judge(self, request, **_) -> RunResult:
        self.runs.append(request)
        status, facts = self.says
        original = request.roles.get("original")
        models = {"candidate": {"path": str(request.roles["candidate"])}}
        models |= {"original": {"path": str(original)}} if original else {}
        for model in models.values():
            model["sha256"] = sha256(self.root / model["path"])
        outcome = outcome_with(
            EMPTY,
            verdicts=(EQUAL,),
            models=models,
            data={"sha256": self.images.sha256, "classes": CLASSES},
            checks_sha256=sha256(self.checks),
            versions={},
            command="pytest",
        )
        report = None
        if facts is not None:
            report = json.loads(record_and_images(outcome_with(outcome, **facts))[0])
        self.meanwhile()
        return RunResult(status, self.root / "reports", report and self.edited(report))


@pytest.fixture
def judged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Judged(tmp_path)
    monkeypatch.setattr("harness.report.api.judged", place.judge)
    place.save("new.safetensors", jitter=0.1)
    return place


def test_the_run_is_the_checks_own_on_the_candidate_with_the_options_given(judged):
    assert accept(judged, "new.safetensors", options=("--baseline", "none")) == 0
    (run,) = judged.runs
    assert {role: str(model) for role, model in run.roles.items()} == {
        "candidate": "new.safetensors",
        "incumbent": "none",
    }
    assert (str(run.checks), run.tests) == ("stress_tests/checks.toml", ("stress_tests",))
    assert run.options[-2:] == ("--baseline", "none")
    assert f"data={judged.data}" in " ".join(run.options)
    assert accept(judged, "new.safetensors") == 0
    assert str(judged.runs[1].roles["incumbent"]) == "models/incumbent.safetensors"


@pytest.mark.parametrize(
    "option",
    [
        ("--stress-reports", "out"),
        ("--stress-reports=out",),
        ("--candidate", "b.safetensors"),
        ("--checks", "g.toml"),
    ],
    ids=" ".join,
)
def test_what_it_says_to_the_gate_itself_nobody_else_says(judged, capsys, option):
    """With the report in another folder, that of an earlier run would pass as this one's."""
    assert accept(judged, "new.safetensors", options=option) == 2
    assert f"{option[0].partition('=')[0]} after --" in capsys.readouterr().err
    assert not judged.runs
    assert not judged.incumbent.exists()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (FAILS, "the verdict is fail"),
        ({"omissions": ("a family",)}, "the verdict is partial"),
        ({"profile": "quick"}, "the verdict is pass of the quick profile, which leaves much out"),
    ],
    ids=["fail", "partial", "quick"],
)
def test_what_is_no_pass_is_refused_and_accepted_by_force_alone(judged, capsys, facts, reason):
    assert accept(judged, ORIGINAL) == 0
    before = judged.incumbent.read_bytes()
    judged.says = (0, facts)
    capsys.readouterr()
    assert accept(judged, "new.safetensors") == 1
    said = f"new.safetensors: not accepted, {reason}; --force accepts it all the same"
    assert capsys.readouterr().out.strip() == said
    assert judged.incumbent.read_bytes() == before
    assert accept(judged, "new.safetensors", "--force") == 0
    assert "new.safetensors: accepted by force" in capsys.readouterr().out
    accepted = load_checkpoint(judged.incumbent)
    report = judged.judge(judged.runs[-1]).report
    expected = {"verdict": report["verdict"], "profile": report["profile"], "forced": True}
    assert {name: accepted.record.acceptance[name] for name in expected} == expected
    assert accepted.model_sha256 == load_checkpoint(judged.root / "new.safetensors").model_sha256


def test_a_run_with_a_failed_self_check_is_refused_by_force_too(judged, capsys):
    judged.says = (
        1,
        FAILS | {"self_checks": (SelfCheck("blurred", "fail", "all 1 checks let it pass"),)},
    )
    for force in ((), ("--force",)):
        assert accept(judged, "new.safetensors", *force) == 2
        assert (
            "not accepted, self-check blurred fails: all 1 checks let it pass"
            in capsys.readouterr().err
        )
    assert not judged.incumbent.exists()


def test_a_record_that_contradicts_itself_is_refused_by_force_too(judged, capsys):
    judged.says = (1, FAILS)
    judged.edited = lambda report: report | {"verdict": "pass"}
    for force in ((), ("--force",)):
        assert accept(judged, "new.safetensors", *force) == 2
        error = capsys.readouterr().err
        assert "new.safetensors: not accepted, its run left no valid record: " in error
        assert (
            "contradicts itself: the run has verdict 'pass', and its other fields give 'fail'"
            in error
        )
    assert not judged.incumbent.exists()


def test_a_run_that_stopped_is_refused_by_force_too(judged, capsys):
    judged.says = (1, {**FAILS, "stopped": "stopped at clean"})
    for force in ((), ("--force",)):
        assert accept(judged, "new.safetensors", *force, options=("--stress-stop",)) == 1
        said = (
            "not accepted, the verdict is fail; the run stopped at clean. --force needs a run "
            "without stop"
        )
        assert said in capsys.readouterr().out
    assert not judged.incumbent.exists()


def test_a_provisional_verdict_is_accepted_by_the_word_that_says_so(judged, capsys):
    judged.says = (0, {"verdicts": (PROVISIONAL,)})
    assert accept(judged, "new.safetensors") == 1
    assert "not accepted, the verdict is provisional" in capsys.readouterr().out
    assert not judged.incumbent.exists()
    assert accept(judged, "--provisional", "new.safetensors", "--incumbent", "x/b.safetensors") == 0
    acceptance = load_checkpoint(judged.root / "x/b.safetensors").record.acceptance
    assert (acceptance["provisional"], acceptance["forced"]) == (True, False)
    judged.says = (1, {"verdicts": (PROVISIONAL, DIFFERENT)})
    assert accept(judged, "--provisional", "new.safetensors") == 1


@pytest.mark.parametrize(
    ("status", "facts"),
    [(4, ERRS), (0, None), (2, {}), (5, None)],
    ids=["4", "none", "2", "5"],
)
def test_what_cannot_be_judged_ends_with_2_by_force_too_and_writes_nothing(
    judged, capsys, status, facts
):
    judged.says = (status, facts)
    assert accept(judged, "--force", "new.safetensors") == 2
    *_, said = capsys.readouterr().err.strip().splitlines()
    why = f"new.safetensors: not accepted, the gate is inconclusive (exit status {status})"
    assert said == f"error: [NOT_ACCEPTED] {why}"
    assert not judged.incumbent.exists()


@pytest.mark.parametrize(
    "name", ["new.safetensors", "models/incumbent.safetensors", "stress_tests/checks.toml"]
)
def test_what_changes_while_the_gate_runs_ends_the_acceptance(judged, capsys, name):
    def change():
        if name.endswith(".toml"):
            judged.checks.write_text(judged.checks.read_text() + "\n# another\n")
        else:
            written.append(judged.save(name, jitter=3.0).read_bytes())

    written = []
    judged.meanwhile = change
    assert accept(judged, "new.safetensors") == 2
    assert "changed while the gate ran" in capsys.readouterr().err
    kept = written if "incumbent" in name else []
    assert [path.read_bytes() for path in judged.incumbent.parent.glob("incumbent.*")] == kept


def test_two_that_are_accepted_at_once_come_one_after_the_other(judged):
    for seed in (1, 2):
        judged.save(f"new-{seed}.safetensors", jitter=0.1, seed=seed)
    running, most = [], []

    def slowly():
        running.append(1)
        time.sleep(0.2)
        most.append(len(running))
        running.pop()

    judged.meanwhile = slowly
    threads = [
        threading.Thread(target=accept, args=(judged, f"new-{seed}.safetensors")) for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    assert [str(run.roles["incumbent"]) for run in judged.runs] == [
        "none",
        "models/incumbent.safetensors",
    ]
    candidate = sha256(judged.root / judged.runs[1].roles["candidate"])
    assert load_checkpoint(judged.incumbent).record.acceptance["candidate_sha256"] == candidate


def test_a_network_of_the_users_own_is_accepted_and_loaded_by_its_builder(judged):
    torch.save(network().state_dict(), judged.root / "own.pth")
    own = ["--stress-set", "model=harness.networks.architectures:FashionCNN"]
    for name, value in ARGUMENTS.items():
        own += ["--stress-set", f"model_args.{name}={value!r}"]
    assert accept(judged, "own.pth", options=own) == 0
    accepted = load_checkpoint(judged.incumbent, builder=lambda: network(jitter=1.0))
    assert (accepted.record.architecture, accepted.record.classes) == ("user", CLASSES)
    assert accepted.record.acceptance["verdict"] == "pass"


# ONNX files, and other models that were made from an original.


@pytest.mark.parametrize(
    ("says", "ended", "said"),
    [
        ((1, FAILS), 1, "not accepted, the verdict is fail"),
        ((4, ERRS), 2, "the gate is inconclusive (exit status 4)"),
        ((0, {"verdicts": (CLEAN_PASSES,)}), 1, f"no check shows that it is equal to {ORIGINAL}"),
        ((0, {"verdicts": (CLEAN_PASSES, INFORMATIONAL)}), 1, "no check shows that"),
    ],
    ids=["different", "cannot-tell", "unchecked", "informational"],
)
def test_one_that_is_not_shown_to_be_equal_is_not_accepted(judged, capsys, says, ended, said):
    judged.says = says
    export(judged)
    assert accept(judged, "new.onnx", "--original", ORIGINAL) == ended
    told = capsys.readouterr()
    assert said in told.out + told.err
    assert list((judged.root / "models").glob("incumbent.*")) == []


def test_a_checkpoint_replaces_an_onnx_file_after_a_comparison_with_it(judged):
    written, declaration = (
        judged.incumbent.with_suffix(".onnx"),
        judged.incumbent.with_suffix(".toml"),
    )
    path = export(judged)
    judged.bind(CLEAN)
    for own in (), ("--original", ORIGINAL):
        judged.incumbent.unlink(missing_ok=True)
        assert accept(judged, "new.onnx", *own) == 0, (
            "it needs no original where all models are ONNX files"
        )
        assert written.read_bytes() == path.read_bytes()
        assert ("original" in tomllib.loads(declaration.read_text())["acceptance"]) == bool(own)
    written.rename(pending_of(written))
    assert accept(judged, "new.onnx", "--original", ORIGINAL) == 0, (
        "an interrupted one is completed by the next"
    )
    assert written.exists()
    assert not pending_of(written).exists()
    assert accept(judged, "new.safetensors") == 0
    assert str(judged.runs[-1].roles["incumbent"]) == "models/incumbent.onnx"
    declared = tomllib.loads(declaration.read_text())
    assert (declared["file"], "acceptance" in declared) == ("incumbent.safetensors", False)


def test_a_checkpoint_with_its_original_keeps_both_hashes_too(judged, capsys):
    assert accept(judged, "new.safetensors", "--original", ORIGINAL) == 0
    declared = tomllib.loads(judged.incumbent.with_suffix(".toml").read_text())
    assert declared["file"] == "incumbent.safetensors"
    assert declared["acceptance"]["original_sha256"] == sha256(judged.root / ORIGINAL)
    judged.meanwhile = lambda: judged.save(ORIGINAL, seed=7, jitter=0.01)
    assert accept(judged, "new.safetensors", "--original", ORIGINAL) == 2
    assert "changed while the gate ran" in capsys.readouterr().err


def with_incumbent(judged):
    judged.incumbent.write_bytes((judged.root / ORIGINAL).read_bytes())


def with_weights_apart(judged):
    import onnx

    apart = {"save_as_external_data": True, "location": "parts.data", "size_threshold": 0}
    onnx.save_model(onnx.load(judged.root / "new.onnx"), judged.root / "new.onnx", **apart)


def with_notes(judged):
    judged.incumbent.with_suffix(".onnx").write_text("notes")


@pytest.mark.parametrize(
    ("prepare", "original", "said"),
    [
        (with_incumbent, (), "with the model that it was made from; name that: --original MODEL"),
        (
            with_weights_apart,
            ("--original", ORIGINAL),
            "read from parts.data, beside it, and an incumbent is one file",
        ),
        (with_notes, ("--original", ORIGINAL), "exists and is not an ONNX file"),
    ],
)
def test_an_onnx_file_that_cannot_be_kept_is_refused_before_a_run(
    judged, capsys, prepare, original, said
):
    export(judged)
    prepare(judged)
    assert accept(judged, "new.onnx", *original) == 2
    assert said in capsys.readouterr().err
    assert judged.runs == []


# Runs of the gate itself.


@pytest.fixture
def zoo(pytester, runs):
    zoo = Zoo(
        pytester.path, tests=("clean", "rotation", "confident_errors", "regression", "equivalence")
    )
    zoo.bind(ROWS + REGRESSION)
    zoo.runs, zoo.incumbent = runs, zoo.root / "models/incumbent.safetensors"
    return zoo


def gate_run(zoo, pytester, candidate, *options, page=False):
    arguments = ("--candidate", str(candidate), "--stress-set", f"data={zoo.data}", *options)
    result = pytester.runpytest_inprocess(
        "stress_tests", *arguments, *(() if page else ("-p", "no:html"))
    )
    return result, json.loads((zoo.root / "reports/stress.json").read_text())


def regression(report):
    (check,) = (check for check in report["checks"] if check["id"] == "regression-clean")
    return check


def test_a_candidate_that_passes_becomes_the_incumbent(zoo, pytester, capsys):
    candidate = zoo.save("new.safetensors", seed=3, jitter=0.02, training=TRAINING)
    before = datetime.now().astimezone()
    assert accept(zoo, "new.safetensors") == 0
    said = (
        "new.safetensors: accepted, models/incumbent.safetensors is the last accepted model "
        "(incumbent) now"
    )
    assert said in capsys.readouterr().out
    accepted, given = load_checkpoint(zoo.incumbent), load_checkpoint(candidate)
    record = accepted.record
    assert (record.architecture, record.arguments, record.training) == (
        "fashion-cnn",
        ARGUMENTS,
        TRAINING,
    )
    report = json.loads((zoo.root / "reports/stress.json").read_text())
    acceptance = dict(record.acceptance)
    assert abs((datetime.fromisoformat(acceptance.pop("date")) - before).total_seconds()) < 600
    assert acceptance == {
        "profile": "default",
        "verdict": "pass",
        "forced": False,
        "checks_sha256": report["checks_sha256"],
        "data_sha256": zoo.images.sha256,
        "candidate_sha256": given.sha256,
        "checks": [check["id"] for check in report["checks"] if check["threshold"] is not None],
    }
    assert accepted.model_sha256 == given.model_sha256
    logits = [
        Classifier(checkpoint.model, workers=1).predict(zoo.images).logits
        for checkpoint in (accepted, given)
    ]
    assert np.array_equal(*logits)
    result, report = gate_run(zoo, pytester, "new.safetensors", "--incumbent", zoo.incumbent)
    assert (result.ret, report["verdict"]) == (0, "pass")
    own = regression(report)
    assert (own["status"], own["detail"]) == (
        "not_applicable",
        "the candidate is the last accepted model (incumbent)",
    )
    assert own["flips"] is None


def test_a_candidate_is_held_against_the_file_that_it_would_replace(zoo, capsys):
    before = zoo.save("prod.safetensors").read_bytes()
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    assert accept(zoo, "worse.safetensors", "--incumbent", "prod.safetensors") == 1
    assert "not accepted, the verdict is fail" in capsys.readouterr().out
    assert (
        regression(json.loads((zoo.root / "reports/stress.json").read_text()))["status"] == "fail"
    )
    assert (zoo.root / "prod.safetensors").read_bytes() == before
    (zoo.root / "new.safetensors").write_bytes(b"not a checkpoint")
    assert accept(zoo, "--force", "new.safetensors") == 2
    assert (
        "error: [NOT_ACCEPTED] new.safetensors: not accepted, the gate is inconclusive"
        in capsys.readouterr().err
    )
    assert not zoo.incumbent.exists()


def test_another_candidate_is_held_against_it_image_by_image(zoo, pytester):
    zoo.save("models/incumbent.safetensors")
    zoo.save("other.safetensors", seed=3, jitter=0.05)
    result, report = gate_run(
        zoo, pytester, "other.safetensors", "--incumbent", zoo.incumbent, page=True
    )
    before, after = (
        Classifier(network(**facts), workers=1).predict(zoo.images).correct
        for facts in ({}, {"seed": 3, "jitter": 0.05})
    )
    lost, gained = (
        np.flatnonzero(before & ~after).tolist(),
        np.flatnonzero(after & ~before).tolist(),
    )
    assert lost, "the networks differ"
    changed = regression(report)["flips"]
    assert (changed["new_failures"], changed["fixed_failures"]) == (lost, gained)
    assert regression(report)["value"] == pytest.approx((len(gained) - len(lost)) / 400)
    line = (
        f"against the last accepted model (incumbent): {len(lost)} new failures, {len(gained)} "
        "fixed, net *"
    )
    result.stdout.fnmatch_lines([line])
    html = (zoo.root / "reports/stress.html").read_text()
    assert "Changes since the last accepted model (incumbent)" in html
    assert all(re.search(rf"\b[Ii]mage {number}\b", html) for number in lost), "each has its face"


def test_a_loss_by_chance_passes(zoo, pytester):
    zoo.save("models/incumbent.safetensors")
    zoo.bind(re.sub("hand = .*", "", ROWS) + REGRESSION)
    zoo.save("a-little.safetensors", jitter=0.1, seed=3)
    result, report = gate_run(zoo, pytester, "a-little.safetensors", "--incumbent", zoo.incumbent)
    assert regression(report)["value"] < -0.01
    assert (result.ret, regression(report)["status"]) == (0, "pass")
    assert "not significant" in regression(report)["explanation"]


def test_an_onnx_file_that_is_equal_is_copied_and_compared_with_later(zoo, pytester):
    zoo.bind(CLEAN + REGRESSION + EQUIVALENCE)
    file, written = export(zoo), zoo.root / "models/incumbent.onnx"
    assert accept(zoo, "new.onnx", "--original", ORIGINAL) == 0
    assert written.read_bytes() == file.read_bytes()
    declared = tomllib.loads(written.with_suffix(".toml").read_text())
    assert (declared["file"], declared["sha256"]) == ("incumbent.onnx", sha256(file))
    acceptance, report = (
        declared["acceptance"],
        json.loads((zoo.root / "reports/stress.json").read_text()),
    )
    assert acceptance["candidate_sha256"] == sha256(file)
    assert (
        acceptance["original_sha256"] == report["original"]["sha256"] == sha256(zoo.root / ORIGINAL)
    )
    assert acceptance["original"].endswith(ORIGINAL)
    assert (acceptance["verdict"], acceptance["forced"]) == ("pass", False)
    assert acceptance["checks"] == ["clean", "equivalence-clean"]
    zoo.bind(CLEAN + REGRESSION)
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    result, report = gate_run(zoo, pytester, "worse.safetensors")
    assert result.ret == 1
    assert report["incumbent"]["path"].endswith("models/incumbent.onnx")
    assert regression(report)["status"] == "fail"
    result.stdout.fnmatch_lines(
        ["1 checks that the last accepted model (incumbent) was accepted by are not in *"]
    )
    result.stdout.fnmatch_lines(["*checks.toml: equivalence-clean"])


@pytest.mark.processes
def test_accept_runs_pytest_in_a_process_of_its_own(zoo, monkeypatch, capfd):
    """The whole way, once."""
    monkeypatch.undo()
    monkeypatch.chdir(zoo.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(zoo.root / "cache"))
    assert accept(zoo, ORIGINAL) == 0
    assert load_checkpoint(zoo.incumbent).record.acceptance["verdict"] == "pass"
    printed = capfd.readouterr().out
    assert "model quality gate" in printed
    assert printed.rstrip().endswith(
        "models/incumbent.safetensors is the last accepted model (incumbent) now"
    )
