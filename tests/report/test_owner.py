"""The owner of a verdict, with a record of a run, and without one."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from outcomes import (
    BROKEN,
    EMPTY,
    FAIL,
    OLD_REPORTS,
    PASS,
    agreed_verdict,
    leave_old_reports,
    outcome_with,
)

from harness.base.files import held, holds_any, is_held
from harness.report.owner import Owner, judge
from harness.report.refusal import UNFINISHED, Claim, refusal
from harness.run.handover import Handover, RunRecord
from harness.run.history import read_history
from harness.run.inner import Launch, execute, hand_over
from harness.run.request import RunRequest
from harness.run.stress_json import record_and_images

RUN = "a" * 32
PASSES, FAILS = (
    outcome_with(EMPTY, verdicts=(PASS,), id=RUN),
    outcome_with(EMPTY, verdicts=(PASS, FAIL), id=RUN),
)
PARTIAL = outcome_with(PASSES, omissions=("half",))
ERROR = outcome_with(PASSES, errors=("[TEST] mine",))


@pytest.fixture
def owner(tmp_path):
    leave_old_reports(tmp_path / "reports")
    (tmp_path / "net.pth").write_bytes(b"weights")
    owner = Owner(tmp_path / "reports", ["pytest"], RUN)
    owner.take(lambda: RunRequest(root=tmp_path, roles={"candidate": str(tmp_path / "net.pth")}))
    yield owner
    owner.release()


def record_of(outcome, status: int) -> RunRecord:
    report, pictures = record_and_images(outcome)
    return RunRecord(RUN, status, report, pictures)


def ending(folder, status: int) -> tuple[int, str, str]:
    """Return the exit status, the verdict that all reports agree on, and the reasons."""
    report = json.loads((folder / "stress.json").read_text())
    return status, agreed_verdict(folder, run=RUN), " ".join(report["errors"])


def test_until_a_run_is_concluded_its_reports_refuse_it(owner, tmp_path):
    assert ending(tmp_path / "reports", 4) == (4, "error", UNFINISHED)


@pytest.mark.parametrize(
    ("outcome", "status", "expected"),
    [
        pytest.param(PASSES, 0, (0, "pass", ""), id="pass"),
        pytest.param(FAILS, 1, (1, "fail", ""), id="fail"),
        pytest.param(PARTIAL, 0, (0, "partial", ""), id="partial"),
        pytest.param(
            outcome_with(FAILS, omissions=("half",)), 1, (1, "partial", ""), id="partial-fail"
        ),
        pytest.param(ERROR, 4, (4, "error", "[TEST] mine"), id="error"),
        pytest.param(outcome_with(PASSES, verdicts=(BROKEN,)), 4, (4, "error", ""), id="broken"),
        pytest.param(outcome_with(PASSES, verdicts=()), 4, (4, "error", ""), id="nothing-judged"),
        pytest.param(PARTIAL, 2, (2, "partial", ""), id="interrupted"),
        pytest.param(ERROR, 2, (2, "error", "[TEST] mine"), id="interrupted-error"),
    ],
)
def test_exit_status_and_reports_follow_from_the_record(owner, tmp_path, outcome, status, expected):
    assert ending(tmp_path / "reports", owner.conclude(record_of(outcome, status))) == expected


@pytest.mark.parametrize(
    ("outcome", "status"), [(FAILS, 0), (PASSES, 1), (PASSES, 5), (ERROR, 0), (PASSES, 2)]
)
def test_a_status_of_pytest_that_contradicts_the_verdict_is_no_verdict(
    owner, tmp_path, capsys, outcome, status
):
    *end, why = ending(tmp_path / "reports", owner.conclude(record_of(outcome, status)))
    assert end == [4, "error"]
    assert f"ended with exit status {status} though its verdict has {outcome.exit_status}" in why
    assert "[TEST] mine" in why or not outcome.results.errors
    assert "though its verdict has" in capsys.readouterr().err


@pytest.mark.parametrize("status", [4, 2])
def test_a_record_that_refuses_the_run_gives_its_reasons(owner, tmp_path, status):
    record = RunRecord(RUN, status, json.dumps(refusal(["[MODEL] mine"], ["pytest"], run=RUN)))
    assert ending(tmp_path / "reports", owner.conclude(record)) == (status, "error", "[MODEL] mine")


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ("", "pytest ended with exit status 0 and without a verdict"),
        ("{", "came to no end"),
        ("{}", "schema"),
    ],
)
def test_a_record_that_cannot_be_read_is_no_verdict(owner, tmp_path, capsys, report, said):
    status, verdict, why = ending(tmp_path / "reports", owner.conclude(RunRecord(RUN, 0, report)))
    assert (status, verdict) == (4, "error")
    assert said in why
    assert said in capsys.readouterr().err


def test_a_record_that_contradicts_itself_is_no_verdict(owner, tmp_path):
    record = record_of(FAILS, 0)
    plain = {**json.loads(record.report), "verdict": "pass", "headline": "PASS"}
    status, verdict, _ = ending(
        tmp_path / "reports", owner.conclude(replace(record, report=json.dumps(plain)))
    )
    assert (status, verdict) == (4, "error")


@pytest.mark.parametrize(("outcome", "status"), [(PASSES, 0), (FAILS, 1)])
def test_inputs_that_have_changed_are_no_verdict(owner, tmp_path, outcome, status):
    (tmp_path / "net.pth").write_bytes(b"other weights")
    status, verdict, why = ending(tmp_path / "reports", owner.conclude(record_of(outcome, status)))
    assert (status, verdict) == (4, "error")
    assert "net.pth: changed while the gate ran" in why


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyboardInterrupt(), OSError(28, "full"), ImportError("libGL.so.1")]
)
def test_reports_that_cannot_be_published_are_no_verdict(
    owner, tmp_path, monkeypatch, capsys, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(Claim, "publish", fail)
    status, verdict, why = ending(tmp_path / "reports", owner.conclude(record_of(PASSES, 0)))
    assert (status, verdict) == (4, "error")
    assert why in capsys.readouterr().err


def test_a_request_that_cannot_be_made_is_said_in_the_reports(tmp_path):
    from harness.base.errors import InputError

    def fail():
        raise InputError("wrong", setting="size")

    owner = Owner(tmp_path, ["pytest"], RUN)
    with pytest.raises(InputError):
        owner.take(fail)
    owner.release()
    assert "wrong" in ending(tmp_path, 4)[2]


def test_a_line_of_the_history_follows_the_reports(shared):
    assert shared.once("-k", "clean").ending == (0, "partial")
    assert [line.verdict for line in read_history(shared.root / "reports/history.jsonl").lines] == [
        "partial"
    ]


def test_a_run_that_has_not_taken_its_folder_leaves_the_reports_alone(tmp_path):
    leave_old_reports(tmp_path)
    Owner(tmp_path, ["pytest"], RUN).refuse("interrupted while it waited")
    assert {name: (tmp_path / name).read_text() for name in OLD_REPORTS} == OLD_REPORTS


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), ImportError("libX")]
)
def test_an_error_of_the_outer_process_itself_is_4(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("harness.report.owner.run_inner", fail)
    result = judge(
        lambda: RunRequest(root=tmp_path),
        Launch((), ("pytest",)),
        reports=tmp_path,
        in_terminal=True,
    )
    assert (result.exit_status, result.verdict) == (4, "error")
    assert "the run came to no end" in " ".join(result.errors)


def test_a_process_that_leaves_no_record_has_no_status_0(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.run.inner._captured", lambda *_: (0, ()))
    result = execute(RunRequest(root=tmp_path))
    assert (result.exit_status, result.status, result.verdict) == (4, 4, "error")


def test_folders_may_be_let_go_in_any_order(tmp_path):
    one, two = (tmp_path / name for name in ("one:1", "two"))
    one.mkdir()
    two.mkdir()
    first, second = held(one), held(two)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert (is_held(one), is_held(two), holds_any()) == (False, True, True)
    second.__exit__(None, None, None)
    assert not holds_any()


# The record between the processes.


def test_a_record_goes_to_the_outer_process_as_it_is(tmp_path):
    handover = hand_over(RunRequest(run_id=RUN), Launch((), ("pytest",)), tmp_path / "request.json")
    assert handover.record() is None
    record = RunRecord(RUN, 1, "{}", {"stress/a.webp": b"\0\xff"}, "", {"net.py": "0"})
    handover.leave(record)
    assert Handover(handover.path).record() == record


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"run": "x"}', b"\xff"])
def test_what_is_no_record_of_this_run_counts_as_none(tmp_path, content):
    handover = hand_over(RunRequest(run_id=RUN), Launch((), ("pytest",)), tmp_path / "request.json")
    (tmp_path / "record.json").write_bytes(content)
    assert handover.record() is None
    handover.leave(RunRecord("b" * 32, 0))
    assert handover.record() is None, "it is of another run"


def test_a_fork_of_the_inner_process_leaves_no_record(tmp_path):
    handover = hand_over(RunRequest(run_id=RUN), Launch((), ("pytest",)), tmp_path / "request.json")
    replace(handover, process=handover.process + 1).leave(RunRecord(RUN, 0))
    assert handover.record() is None


# Packages of each process.

LOADED = """
import sys
{code}
print(*sorted({{"torch", "numpy", "pydantic"}} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import harness.plugin", ""),
        ("import harness.plugin.outer, harness.report.owner, harness.cli.gate", "pydantic"),
        ("from pathlib import Path\nfrom harness.report.redraw import "
            "redrawn\nredrawn(Path({record!r}))",
         "numpy pydantic"),
    ],
    ids=["plugin", "owner", "reports"],
)  # fmt: skip
def test_the_outer_process_loads_no_pytorch(shared, code, loaded):
    shared.run(page=True)
    code = code.format(record=str(shared.root / "reports/stress.json"))
    ran = subprocess.run(
        [sys.executable, "-c", LOADED.format(code=code)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == loaded
