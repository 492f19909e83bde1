"""`stress-harness accept`: the gate decides, and later candidates are compared with the accepted one."""

import hashlib
import json
import re
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path

import cv2  # noqa: F401  Compiled modules must be there before `pytester` takes its snapshot of modules,
import numpy as np
import pytest
import scipy.stats  # noqa: F401  since it drops what a run inside this process imports, and they load only once.
import torch
from zoo import (
    ARGUMENTS,
    CLASSES,
    REGRESSION,
    ROWS,
    TRAINING,
    Zoo,
    hypothesis_as_it_starts,
    line_of,
    network,
    request_in,
    run_here,
    shown_by_run,
)

from harness.cli import main
from harness.inference import Classifier
from harness.networks.checkpoints import load_checkpoint
from harness.report.refusal import mark_of_page, mark_of_summary
from harness.run.handover import Handover


@pytest.fixture
def zoo(pytester, monkeypatch):
    zoo = Zoo(pytester.path, tests=("clean", "rotation", "confident_errors", "regression"))
    zoo.bind(ROWS + REGRESSION)
    zoo.runs = []
    zoo.incumbent = zoo.root / "models/incumbent.safetensors"
    run_here(monkeypatch, pytester, zoo.runs)
    with hypothesis_as_it_starts():
        yield zoo


def accept(zoo, *arguments, options=()) -> int:
    return main(["accept", *map(str, arguments), "--", "--stress-set", f"data={zoo.data}", *options])


def gate_run(zoo, pytester, candidate, *options, page=False):
    arguments = ("--candidate", str(candidate), "--stress-set", f"data={zoo.data}", *options)
    pages = () if page else ("-p", "no:html")
    result = pytester.runpytest_inprocess("stress_tests", *arguments, *pages)
    return result, json.loads((zoo.root / "reports/stress.json").read_text())


def regression(report):
    (check,) = (check for check in report["checks"] if check["id"] == "regression-clean")
    return check


# The decision.


def test_a_candidate_that_passes_becomes_the_incumbent(zoo, capsys):
    candidate = zoo.save("new.safetensors", seed=3, jitter=0.02, training=TRAINING)
    before = datetime.now().astimezone()
    assert accept(zoo, "new.safetensors") == 0
    assert (
        "new.safetensors: accepted, models/incumbent.safetensors is the last accepted model (incumbent) now"
        in capsys.readouterr().out
    )
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
        "checks_sha256": report["checks_sha256"],
        "data_sha256": zoo.images.sha256,
        "candidate_sha256": given.sha256,
        "checks": [check["id"] for check in report["checks"] if check["threshold"] is not None],
    }
    assert accepted.model_sha256 == given.model_sha256
    logits = [Classifier(checkpoint.model, workers=1).predict(zoo.images).logits for checkpoint in (accepted, given)]
    assert np.array_equal(*logits)


def test_a_candidate_is_held_against_the_file_that_it_would_replace(zoo, capsys):
    zoo.save("prod.safetensors")
    before = (zoo.root / "prod.safetensors").read_bytes()
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    assert accept(zoo, "worse.safetensors", "--incumbent", "prod.safetensors") == 1
    assert "not accepted, the verdict is fail" in capsys.readouterr().out
    assert regression(json.loads((zoo.root / "reports/stress.json").read_text()))["status"] == "fail"
    assert (zoo.root / "prod.safetensors").read_bytes() == before


# Verdicts and their consequences; the gate's own run is made up.


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """A repository in which the gate says what `judged.says` is: exit status, facts of its report (None: none)."""
    place = Zoo(tmp_path)
    place.incumbent = place.root / "models/incumbent.safetensors"
    place.runs, place.says = [], (0, {"verdict": "pass"})
    monkeypatch.chdir(tmp_path)

    def run(command, **_):
        place.runs.append(line_of(command))
        status, facts = place.says
        if facts is not None:
            candidate = Path(line_of(command)[line_of(command).index("--candidate") + 1])
            report = {
                "profile": "default",
                "candidate": {"sha256": hashlib.sha256(candidate.read_bytes()).hexdigest()},
                "data": {"sha256": place.images.sha256, "classes": CLASSES},
                "checks_sha256": hashlib.sha256(place.checks.read_bytes()).hexdigest(),
                "checks": [{"id": "clean"}],
                **facts,
            }
            run_id, folder = json.loads(request_in(command).read_text())["run_id"], place.root / "reports"
            folder.mkdir(exist_ok=True)
            (folder / "stress.json").write_text(json.dumps({"run": run_id, **report}))
            (folder / "stress.md").write_text(mark_of_summary(run_id, report["verdict"]))
            (folder / "stress.html").write_text(mark_of_page(run_id, report["verdict"]))
            Handover(request_in(command)).answer(status=status)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    shown_by_run(monkeypatch)
    return place


FAIL, PARTIAL, PASS = (1, {"verdict": "fail"}), (0, {"verdict": "partial"}), (0, {"verdict": "pass"})
QUICK = (0, {"verdict": "pass", "profile": "quick"})


def test_the_run_is_the_checks_own_on_the_candidate_with_the_options_given(judged):
    judged.save("new.safetensors")
    assert accept(judged, "new.safetensors", options=("--baseline", "none")) == 0
    (command,) = judged.runs
    assert command[:5] == ["stress_tests", "--candidate", "new.safetensors", "--incumbent", "none"]
    assert "--checks stress_tests/checks.toml" in " ".join(command)
    assert command[-4:] == ["--stress-set", f"data={judged.data}", "--baseline", "none"]
    assert accept(judged, "new.safetensors") == 0
    assert "--incumbent models/incumbent.safetensors" in " ".join(judged.runs[1])


@pytest.mark.parametrize(
    "option",
    [("--stress-reports", "out"), ("--stress-reports=out",), ("--candidate", "b.safetensors"), ("--checks", "g.toml")],
    ids=" ".join,
)
def test_what_it_says_to_the_gate_itself_nobody_else_says(judged, capsys, option):
    """With the report in another folder, that of an earlier run would pass as this one's."""
    judged.save("new.safetensors")
    assert accept(judged, "new.safetensors", options=option) == 2
    assert f"{option[0].partition('=')[0]} after --" in capsys.readouterr().err
    assert not judged.runs
    assert not judged.incumbent.exists()


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (FAIL, "the verdict is fail"),
        (PARTIAL, "the verdict is partial"),
        (QUICK, "the verdict is pass of the quick profile, which leaves much out"),
    ],
    ids=["fail", "partial", "quick"],
)
def test_what_is_no_pass_is_refused_and_accepted_by_force_alone(judged, capsys, says, reason):
    assert accept(judged, "models/augmented.safetensors") == 0
    before = judged.incumbent.read_bytes()
    candidate = judged.save("new.safetensors", jitter=0.1)
    judged.says = says
    capsys.readouterr()
    assert accept(judged, "new.safetensors") == 1
    said = f"new.safetensors: not accepted, {reason}; --force accepts it all the same"
    assert capsys.readouterr().out.strip() == said
    assert judged.incumbent.read_bytes() == before
    assert accept(judged, "--force", "new.safetensors") == 0
    assert "new.safetensors: accepted by force" in capsys.readouterr().out
    accepted = load_checkpoint(judged.incumbent)
    facts = {"profile": "default", "forced": True, **says[1]}
    assert {name: accepted.record.acceptance[name] for name in facts} == facts
    assert accepted.model_sha256 == load_checkpoint(candidate).model_sha256


def test_a_provisional_verdict_is_accepted_by_the_word_that_says_so(judged, capsys):
    judged.save("new.safetensors")
    judged.says = (0, {"verdict": "pass", "provisional": True})
    assert accept(judged, "new.safetensors") == 1
    assert "not accepted, the verdict is provisional" in capsys.readouterr().out
    assert not judged.incumbent.exists()
    assert accept(judged, "--provisional", "new.safetensors") == 0
    acceptance = load_checkpoint(judged.incumbent).record.acceptance
    assert (acceptance["provisional"], acceptance["forced"]) == (True, False)
    judged.says = (1, {"verdict": "fail", "provisional": True})
    assert accept(judged, "--provisional", "new.safetensors") == 1


@pytest.mark.parametrize(
    "arguments",
    [("--force", "a.safetensors"), ("a.safetensors", "--force"), ("a.safetensors", "--incumbent", "x/b.safetensors")],
    ids=["force-first", "force-last", "incumbent-last"],
)
def test_options_may_stand_before_and_after_the_checkpoint(judged, arguments):
    judged.save("a.safetensors")
    assert accept(judged, *arguments) == 0
    (written,) = [*judged.incumbent.parent.glob("incumbent.safetensors"), *judged.root.glob("x/b.safetensors")]
    assert load_checkpoint(written).record.acceptance["forced"] is False, "it passes without"


@pytest.mark.parametrize(
    ("says", "status"),
    [((4, {"verdict": "error"}), 4), ((0, None), 4), ((2, {"verdict": "pass"}), 2), ((5, None), 4)],
    ids=["4", "none", "2", "5"],
)
def test_what_cannot_be_judged_ends_with_2_by_force_too_and_writes_nothing(judged, capsys, says, status):
    judged.save("new.safetensors")
    # A report of an earlier run does not pass as this one's.
    (judged.root / "reports").mkdir()
    (judged.root / "reports/stress.json").write_text(json.dumps({"verdict": "pass", "profile": "default"}))
    judged.says = says
    assert accept(judged, "--force", "new.safetensors") == 2
    *_, said = capsys.readouterr().err.strip().splitlines()
    why = f"new.safetensors: not accepted, the gate is inconclusive (exit status {status})"
    assert said == f"error: [NOT_ACCEPTED] {why}"
    assert not judged.incumbent.exists()


def test_a_file_that_changes_while_the_gate_runs_is_not_accepted(judged, monkeypatch, capsys):
    judged.save("new.safetensors")
    run = subprocess.run

    def run_and_swap(command, **facts):
        done = run(command, **facts)
        judged.save("new.safetensors", jitter=3.0)
        return done

    monkeypatch.setattr(subprocess, "run", run_and_swap)
    assert accept(judged, "new.safetensors") == 2
    assert "changed while the gate ran" in capsys.readouterr().err
    assert not judged.incumbent.exists()


@pytest.mark.parametrize("name", ["incumbent.safetensors", "checks.toml"])
def test_what_it_was_judged_by_must_still_be_there(judged, monkeypatch, capsys, name):
    judged.save("new.safetensors")
    run = subprocess.run

    def run_and_swap(command, **facts):
        done = run(command, **facts)
        if name == "checks.toml":
            judged.checks.write_text(judged.checks.read_text() + "\n# another\n")
        else:
            judged.save("models/incumbent.safetensors", jitter=3.0)
            written.append(judged.incumbent.read_bytes())
        return done

    written = []
    monkeypatch.setattr(subprocess, "run", run_and_swap)
    judged.says = (0, {"verdict": "pass", "checks_sha256": hashlib.sha256(judged.checks.read_bytes()).hexdigest()})
    if name == "checks.toml":
        judged.says[1]["checks_sha256"] = "e" * 64
    assert accept(judged, "new.safetensors") == 2
    assert f"{name} changed while the gate ran" in capsys.readouterr().err.replace(": changed", " changed")
    assert [path.read_bytes() for path in judged.incumbent.parent.glob("incumbent.*")] == written


def test_two_that_are_accepted_at_once_come_one_after_the_other(judged, monkeypatch):
    for seed in (1, 2):
        judged.save(f"new-{seed}.safetensors", jitter=0.1, seed=seed)
    at_once, most = threading.Semaphore(0), []
    run = subprocess.run

    def slowly(command, **facts):
        at_once.release()
        time.sleep(0.2)
        most.append(at_once._value)
        done = run(command, **facts)
        at_once.acquire()
        return done

    monkeypatch.setattr(subprocess, "run", slowly)
    threads = [threading.Thread(target=accept, args=(judged, f"new-{seed}.safetensors")) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    first, second = judged.runs
    assert "--incumbent none" in " ".join(first)
    assert "--incumbent models/incumbent.safetensors" in " ".join(second)
    accepted = load_checkpoint(judged.incumbent)
    candidate = Path(second[second.index("--candidate") + 1])
    assert accepted.record.acceptance["candidate_sha256"] == load_checkpoint(candidate).sha256


# Runs of the gate itself.


def test_a_file_that_is_no_checkpoint_cannot_be_judged(zoo, capsys):
    (zoo.root / "new.safetensors").write_bytes(b"not a checkpoint")
    assert accept(zoo, "--force", "new.safetensors") == 2
    assert "error: [NOT_ACCEPTED] new.safetensors: not accepted, the gate is inconclusive" in capsys.readouterr().err
    assert not zoo.incumbent.exists()


# Later runs.


def test_the_accepted_checkpoint_is_not_held_against_itself(zoo, pytester):
    zoo.save("new.safetensors", seed=3, jitter=0.02)
    assert accept(zoo, "new.safetensors") == 0
    result, report = gate_run(zoo, pytester, "new.safetensors", "--incumbent", zoo.incumbent)
    assert (result.ret, report["verdict"]) == (0, "pass")
    assert (regression(report)["status"], regression(report)["detail"]) == (
        "not_applicable",
        "the candidate is the last accepted model (incumbent)",
    )
    assert regression(report)["flips"] is None


def test_another_candidate_is_held_against_it_image_by_image(zoo, pytester):
    zoo.save("models/incumbent.safetensors")
    zoo.save("other.safetensors", seed=3, jitter=0.05)
    result, report = gate_run(zoo, pytester, "other.safetensors", "--incumbent", zoo.incumbent, page=True)
    before, after = (
        Classifier(network(**facts), workers=1).predict(zoo.images).correct
        for facts in ({}, {"seed": 3, "jitter": 0.05})
    )
    lost, gained = np.flatnonzero(before & ~after).tolist(), np.flatnonzero(after & ~before).tolist()
    assert lost, "the networks differ"
    changed = regression(report)["flips"]
    assert (changed["new_failures"], changed["fixed_failures"]) == (lost, gained)
    assert regression(report)["value"] == pytest.approx((len(gained) - len(lost)) / 400)
    line = f"against the last accepted model (incumbent): {len(lost)} new failures, {len(gained)} fixed, net *"
    result.stdout.fnmatch_lines([line])
    html = (zoo.root / "reports/stress.html").read_text()
    assert "Changes since the last accepted model (incumbent)" in html
    assert all(re.search(rf"\b[Ii]mage {number}\b", html) for number in lost), "each has its face"


def test_a_significant_loss_against_it_fails_and_one_by_chance_does_not(zoo, pytester):
    rows = re.sub("hand = .*", "", ROWS) + REGRESSION
    zoo.save("models/incumbent.safetensors")
    zoo.bind(rows)
    zoo.save("worse.safetensors", jitter=0.4, seed=1)
    result, report = gate_run(zoo, pytester, "worse.safetensors", "--incumbent", zoo.incumbent)
    assert (result.ret, report["verdict"], regression(report)["status"]) == (1, "fail", "fail")
    zoo.save("a-little.safetensors", jitter=0.1, seed=3)
    result, report = gate_run(zoo, pytester, "a-little.safetensors", "--incumbent", zoo.incumbent)
    assert regression(report)["value"] < -0.01
    assert (result.ret, regression(report)["status"]) == (0, "pass")
    assert "not significant" in regression(report)["explanation"]


def test_a_network_of_the_users_own_is_accepted_and_loaded_by_its_builder(zoo, pytester):
    torch.save(network().state_dict(), zoo.root / "own.pth")
    own = ["--stress-set", "model=harness.networks.architectures:FashionCNN"]
    for name, value in ARGUMENTS.items():
        own += ["--stress-set", f"model_args.{name}={value!r}"]
    assert accept(zoo, "own.pth", options=own) == 0
    accepted = load_checkpoint(zoo.incumbent, builder=lambda: network(jitter=1.0))
    assert (accepted.record.architecture, accepted.record.classes) == ("user", CLASSES)
    assert accepted.record.acceptance["verdict"] == "pass"
    result, report = gate_run(zoo, pytester, "own.pth", "--incumbent", zoo.incumbent, *own)
    assert (result.ret, regression(report)["status"]) == (0, "not_applicable")


@pytest.mark.processes
def test_accept_runs_pytest_in_a_process_of_its_own(zoo, monkeypatch, capfd):
    """The whole way, once."""
    monkeypatch.undo()
    monkeypatch.chdir(zoo.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(zoo.root / "cache"))
    assert accept(zoo, "models/augmented.safetensors") == 0
    assert load_checkpoint(zoo.incumbent).record.acceptance["verdict"] == "pass"
    printed = capfd.readouterr().out
    assert "model quality gate" in printed
    assert printed.rstrip().endswith("models/incumbent.safetensors is the last accepted model (incumbent) now")
