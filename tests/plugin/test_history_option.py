"""The gate leaves a line in its history, and says what it cannot leave, without a change of the verdict."""

import json
import sys
import types

import pytest

from harness.cli import main
from harness.run.history import read_history

pytestmark = pytest.mark.usefixtures("unchecked")


def test_runs_leave_a_line_each_and_the_report_draws_them(zoo, monkeypatch, capsys):
    path = zoo.root / "reports/history.jsonl"
    assert zoo.run().ret == 0
    with path.open("a") as file:
        file.write("half a line")
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", page=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*history: *history.jsonl: line 2: is no JSON*it is skipped*"])
    known = read_history(path)
    assert ([len(line.failing) for line in known.lines], len(known.damaged)) == ([0, 4], 1)
    page = (zoo.root / "reports/stress.html").read_text()
    assert "Run history" in page
    assert "1 candidate in a row" in page

    capsys.readouterr()
    monkeypatch.chdir(zoo.root)
    assert main(["history"]) == 0
    said = capsys.readouterr()
    assert "clean fails since" in said.out
    assert "line 2: is no JSON" in said.err
    assert "Failing since" in (zoo.root / "reports/history.html").read_text()
    assert main(["history", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["verdict"] for run in found["runs"]] == ["pass", "fail"]


def test_in_ci_a_line_is_left_where_one_asks_for_it(shared, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert shared.once("-k", "clean", files={"note": "ci"}).history == ()
    shared.once("-k", "clean", "--stress-set", "history=kept/h.jsonl")
    assert [line.verdict for line in read_history(shared.root / "kept/h.jsonl").lines] == ["partial"]


@pytest.mark.parametrize(
    ("options", "record"), [((), "all"), (("--collect-only",), None), (("--candidate", "none.pth"), None)]
)
def test_what_is_no_run_of_the_gate_leaves_none(shared, options, record):
    assert shared.once(*options, record=record).history == ()


def test_what_cannot_be_left_is_told_and_changes_no_verdict(shared, monkeypatch):
    def away(_):
        raise ConnectionError("no answer from tracking.example")

    mlflow = types.ModuleType("mlflow")
    mlflow.set_experiment, mlflow.__spec__ = away, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    (shared.root / "reports/history.jsonl").mkdir(parents=True)  # Nobody asked for it.
    result = shared.run("-k", "clean", "--stress-set", "mlflow=robustness")
    assert (result.ret, shared.report()["verdict"]) == (0, "partial")
    result.stdout.fnmatch_lines(
        [
            "*history: this run leaves no line (*history.jsonl: is a folder, expected a file for a run history*)",
            "*MLflow: this run was not logged (no answer from tracking.example)",
        ]
    )


def test_what_cannot_work_is_known_before_the_run(shared, monkeypatch):
    ran = shared.once("--stress-set", "history=stress_tests")
    assert ran.ending == (4, "error")
    assert "stress_tests: is a folder, expected a file for a run history" in ran.why
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    ran = shared.once("--stress-set", "mlflow=robustness")
    assert ran.ending == (4, "error")
    assert "mlflow robustness: MLflow is not installed; pip install" in ran.why


def test_a_history_that_is_not_there_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["history"]) == 2
    assert "there is no such file" in capsys.readouterr().err
    (tmp_path / "h.jsonl").write_text("[]\n")
    assert main(["history", "h.jsonl"]) == 2
    said = capsys.readouterr().err
    assert "warning: h.jsonl: line 1: schema None" in said
    assert "no run of the gate is in it" in said
    assert main(["history", "h.jsonl", "--last", "0"]) == 2
