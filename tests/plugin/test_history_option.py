"""The gate leaves a line in its history, and says what it cannot leave, without a change of the verdict."""

import json
import sys
import types

import pytest

from harness.cli import main
from harness.run.history import read_history


@pytest.fixture(autouse=True)
def no_ci(monkeypatch):
    for name in ("CI", "BUILD_NUMBER", "TF_BUILD"):
        monkeypatch.delenv(name, raising=False)


def test_runs_leave_a_line_each_and_the_report_draws_them(zoo, monkeypatch, capsys):
    path = zoo.root / "reports/history.jsonl"
    assert zoo.run().ret == 0
    (first,) = read_history(path).lines
    assert (first.verdict, first.failing, first.judged) == ("pass", (), 4)
    assert first.candidate == zoo.report()["candidate"]["sha256"]
    values = {check["id"]: check["value"] for check in zoo.report()["checks"]}
    assert (first.clean, first.worst_pose, first.robust_accuracy) == (values["clean"], values["rotate-ccw-010"], None)

    with path.open("a") as file:
        file.write("half a line")
    zoo.save("worse.safetensors", blind=True)
    result = zoo.run("--candidate", "worse.safetensors", page=True)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*history: *history.jsonl: line 2: is no JSON*it is skipped*"])
    known = read_history(path)
    assert [len(line.failing) for line in known.lines] == [0, 4]
    assert len(known.damaged) == 1
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


def test_in_ci_a_line_is_left_where_one_asks_for_it(zoo, monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert zoo.run("-k", "clean").ret == 0
    assert not (zoo.root / "reports/history.jsonl").exists()
    assert zoo.run("-k", "clean", "--stress-set", "history=kept/h.jsonl").ret == 0
    assert [line.verdict for line in read_history(zoo.root / "kept/h.jsonl").lines] == ["partial"]
    monkeypatch.setenv("CI", "false")
    assert zoo.run("-k", "clean", "--stress-set", "history=none").ret == 0
    assert not (zoo.root / "reports/history.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "record"), [((), "all"), (("--collect-only",), None), (("--candidate", "none.pth"), None)]
)
def test_what_is_no_run_of_the_gate_leaves_none(zoo, options, record):
    zoo.run(*options, record=record)
    assert not (zoo.root / "reports/history.jsonl").exists()


def test_what_cannot_be_left_is_told_and_changes_no_verdict(zoo, monkeypatch):
    def away(_):
        raise ConnectionError("no answer from tracking.example")

    mlflow = types.ModuleType("mlflow")
    mlflow.set_experiment, mlflow.__spec__ = away, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    (zoo.root / "reports/history.jsonl").mkdir(parents=True)  # Nobody asked for it.
    result = zoo.run("-k", "clean", "--stress-set", "mlflow=robustness")
    assert (result.ret, zoo.report()["verdict"]) == (0, "partial")
    result.stdout.fnmatch_lines(
        [
            "*history: this run leaves no line (*history.jsonl: is a folder, expected a file for a run history*)",
            "*MLflow: this run was not logged (no answer from tracking.example)",
        ]
    )


def test_what_cannot_work_is_known_before_the_run(zoo, monkeypatch):
    (zoo.root / "folder").mkdir()
    result = zoo.run("--stress-set", "history=folder")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*folder: is a folder, expected a file for a run history*"])
    monkeypatch.setattr("harness.features.mlflow.logged.importlib.util.find_spec", lambda _: None)
    result = zoo.run("--stress-set", "mlflow=robustness")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*mlflow robustness: MLflow is not installed; pip install*"])


@pytest.mark.parametrize("ends", ["raise SystemExit(0)", "raise RuntimeError('late')"])
def test_a_run_that_ends_otherwise_than_its_tests_leaves_no_line_of_theirs(zoo, ends):
    (zoo.root / "conftest.py").write_text(f"def pytest_unconfigure():\n    {ends}\n")
    assert zoo.run().ret == 4
    assert zoo.report()["verdict"] == "error"
    path = zoo.root / "reports/history.jsonl"
    assert {line.verdict for line in read_history(path).lines} <= {"error"}


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
