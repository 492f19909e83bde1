"""The gate leaves a line in its history, or a note, without a change of the verdict."""

import json

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
    said = (
        "attempt 2 on this test set: a recipe at the minimum detectable drop passes at least one "
        "of 2 attempts"
    )
    result.stdout.fnmatch_lines([f"*note: {said} with a probability of 10%"])
    assert (zoo.report()["attempt"], zoo.report()["chance_of_a_pass"]) == (2, 0.0975)
    page = (zoo.root / "reports/stress.html").read_text()
    assert said in page
    assert said in (zoo.root / "reports/stress.md").read_text()
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
    assert [line.verdict for line in read_history(shared.root / "kept/h.jsonl").lines] == [
        "partial"
    ]


@pytest.mark.parametrize(
    ("options", "record"),
    [((), "all"), (("--collect-only",), None), (("--candidate", "none.pth"), None)],
)
def test_what_is_no_run_of_the_gate_leaves_none(shared, options, record):
    assert shared.once(*options, record=record).history == ()


def test_what_cannot_be_left_is_told_and_changes_no_verdict(shared):
    (shared.root / "reports/history.jsonl").mkdir(parents=True)  # Nobody asked for it.
    result = shared.run("-k", "clean")
    assert (result.ret, shared.report()["verdict"]) == (0, "partial")
    said = (
        "*history: this run leaves no line (*history.jsonl: is a folder, expected a file for a "
        "run history*)"
    )
    result.stdout.fnmatch_lines([said])


def test_what_cannot_work_is_known_before_the_run(shared):
    ran = shared.once("--stress-set", "history=stress_tests")
    assert ran.ending == (4, "error")
    assert "stress_tests: is a folder, expected a file for a run history" in ran.why


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
