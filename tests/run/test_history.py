"""A run leaves one line, whole.

Lines are read back as a series, and one that is damaged is named and skipped.
"""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from outcomes import BROKEN, EMPTY, REPORTED, outcome_with, verdict

from harness.base.errors import InputError
from harness.base.outputs import HISTORY, Output
from harness.base.records import as_json
from harness.checks import Check, Threshold, Verdict
from harness.perturb import Pose
from harness.run.history import (
    History,
    attempt_of,
    chance_of_a_pass,
    failing_since,
    leave_line,
    read_history,
)
from harness.run.history_line import line_of
from harness.run.margins import margin
from harness.run.stress_json import stress_json

START = datetime(2026, 1, 1, tzinfo=UTC)


def outcome(candidate: str, *, failing=(), **facts):
    verdicts = [
        verdict("fail" if name in failing else "pass", name, value=0.9)
        for name in ("good", "other")
    ]
    models = {
        "candidate": {
            "path": f"{candidate}.safetensors",
            "sha256": candidate * 64,
            "architecture": "",
        }
    }
    return outcome_with(EMPTY, verdicts=tuple(verdicts), models=models, **facts)


def line(candidate: str, day: int = 0, **facts):
    return line_of(outcome(candidate, **facts), at=START + timedelta(days=day))


def at_pose(value: float, status: str = "pass") -> Verdict:
    check = Check("rotate", "rotation", "accuracy", pose=Pose(degrees=10), hand=Threshold(0.5))
    return Verdict(check, status, "accuracy", value=value, threshold=0.5, n=100)


def test_a_line_says_what_the_run_came_to():
    grid = Check("worst", "search", "robust_accuracy", keys={"grid": "augmentation-range"})
    verdicts = (
        *(
            verdict("pass", value=0.92, std=0.01),
            verdict("fail", "bad", family="pairs", value=0.8, std=0.02),
        ),
        *(at_pose(0.7), at_pose(0.6), replace(at_pose(0.3), status="informational")),
        Verdict(grid, "informational", "robust_accuracy", value=0.4, n=100),
        Verdict(
            Check("base", "clean", "accuracy", role="baseline"),
            "pass",
            "accuracy",
            value=0.3,
            n=100,
        ),
    )
    found = line_of(outcome_with(EMPTY, verdicts=verdicts), at=START)
    assert (found.candidate, found.path) == ("c" * 64, "c.safetensors")
    assert (found.verdict, found.profile, found.data, found.checks) == (
        "fail",
        "default",
        "d" * 64,
        "e" * 64,
    )
    assert (found.judged, found.failing) == (5, ("bad",))
    assert (found.clean, found.worst_pose, found.robust_accuracy) == (0.92, 0.6, 0.4)
    assert found.margins == {"clean": 7.0, "pairs": -2.5, "rotation": pytest.approx(20.0)}
    assert next(iter(json.loads(as_json(found)))) == "candidate", (
        "what a line is known by stands first"
    )


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (verdict("pass", value=0.87, std=0.01), 2.0),
        (verdict("fail", value=0.83, std=0.01), -2.0),
        (verdict("pass", value=0.84, std=0.01), 0.0),
        (verdict("pass", value=0.8585), 1.0),
        (verdict("pass", value=1e9), 99.0),
        (REPORTED, None),
        (BROKEN, None),
    ],
    ids=[
        "holds",
        "fails",
        "within its interval",
        "by hand",
        "far",
        "without a threshold",
        "not judged",
    ],
)
def test_a_margin_is_in_standard_deviations_of_healthy_retrains(one, expected):
    assert margin(one) == (expected if expected is None else pytest.approx(expected))


def test_of_a_ceiling_less_is_on_the_good_side():
    check = Check("pair", "pairs", "pair_failures", "at_most", panel=Threshold(20.0, std=4.0))
    assert margin(
        Verdict(check, "pass", "pair_failures", value=12, threshold=20.0, n=100)
    ) == pytest.approx(2.0)
    assert margin(
        Verdict(check, "fail", "pair_failures", value=28, threshold=20.0, n=100)
    ) == pytest.approx(-2.0)


def test_what_is_written_is_read_by_time(tmp_path):
    path = tmp_path / "kept/history.jsonl"
    assert read_history(path) == History(())
    lines = [line("a", 2), line("b", 1, failing=("good",))]
    for each in lines:
        leave_line(Output(path, HISTORY), each)
    assert read_history(path) == History((lines[1], lines[0]))
    assert path.read_text().count("\n") == 2


def test_the_last_whole_run_of_each_candidate_counts():
    known = History(
        (
            line("a"),
            line("b", 1, profile="quick"),
            line("c", 2, data={**EMPTY.inputs.data, "sha256": "f" * 64}),
            line("d", 3, omissions=("a part",)),
            line("e", 4, errors=("none",)),
            line("f", 5),
            line("a", 6, failing=("good",)),
        )
    )
    shown = known.series[("default", "d" * 64)]
    assert [each.candidate[0] for each in shown] == ["f", "a"]
    assert shown[-1].failing == ("good",)
    assert tuple(known.series) == (
        ("default", "d" * 64),
        ("default", "f" * 64),
        ("quick", "d" * 64),
    )


def test_since_when_a_gate_has_failed():
    runs = [("good",), ("other",), ("other", "good"), ("good", "other")]
    lines = [
        line(name, day, failing=failing)
        for day, (name, failing) in enumerate(zip("abcd", runs, strict=True))
    ]
    assert [
        (one.check, one.first.candidate[0], one.runs, one.before) for one in failing_since(lines)
    ] == [
        ("other", "b", 3, True),
        ("good", "c", 2, True),
    ]
    (first, _) = failing_since(lines[1:])
    assert (first.check, first.runs, first.before) == ("other", 3, False)
    assert failing_since([]) == failing_since([line("a")]) == []


DAMAGED = {
    "cut": (lambda text: text[: len(text) // 2], "is no JSON"),
    "conflict": (
        lambda text: f"<<<<<<< HEAD\n{text}",
        "is a mark of a merge conflict; keep the lines of both sides",
    ),
    "list": (lambda _: "[1, 2]", "schema None, and this version reads schema 2"),
    "schema": (
        lambda text: text.replace('"schema":2', '"schema":3'),
        "schema 3, and this version reads schema 2",
    ),
    "key": (lambda text: text.replace('"judged"', '"judge"'), "key 'judged' is missing"),
    "type": (
        lambda text: text.replace('"clean":0.9', '"clean":"good"'),
        "clean is 'good', expected a number",
    ),
    "range": (
        lambda text: text.replace('"clean":0.9', '"clean":7'),
        "clean is 7, expected a number of at most 1",
    ),
    "date": (lambda text: text.replace("2026-01-01T", "yesterday "), "at is 'yesterday "),
    "bytes": (lambda _: "\udcff\udcfe", "is no JSON"),
    "deep": (lambda _: "[" * 100_000, "is no JSON"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_is_named_and_skipped_and_stays(tmp_path, damage, said):
    path = tmp_path / "history.jsonl"
    text = as_json(replace(line("a"), clean=0.9))
    content = "\n".join([as_json(line("b")), damage(text), as_json(line("c"))]).encode(
        errors="surrogateescape"
    )
    path.write_bytes(content)
    known = read_history(path)
    assert [each.candidate[0] for each in known.lines if each.candidate[0] != "a"] == ["b", "c"]
    (message,) = known.damaged
    assert message.startswith(f"{path}: line 2: ")
    assert said in message
    assert message.endswith(
        "it is skipped and stays unchanged: mend it, or take it out of the file"
    )
    leave_line(Output(path, HISTORY), line("d"))
    assert path.read_bytes().startswith(content + b"\n")
    assert read_history(path).damaged == known.damaged


def test_a_line_that_a_merge_doubled_is_one(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(
        "\r\n".join([as_json(line("a")), "", as_json(line("b", 1)), as_json(line("a"))]) + "\n"
    )
    assert read_history(path) == History((line("a"), line("b", 1)))


def test_a_line_after_a_killed_writer_stands_alone(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"candidate": "half of')
    leave_line(Output(path, HISTORY), line("a"))
    known = read_history(path)
    assert known.lines == (line("a"),)
    assert len(known.damaged) == 1


WRITER = """
import sys
from pathlib import Path
from harness.base.files import append_line
for number in range(50):
    append_line(Path(sys.argv[1]), f"{sys.argv[2]} {number} " + "x" * 3000)
"""


def test_lines_of_processes_that_write_at_once_are_all_whole(tmp_path):
    path = tmp_path / "lines"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    commands = [[sys.executable, "-c", WRITER, str(path), name] for name in ("one", "two", "three")]
    writers = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands
    ]
    assert [(writer.communicate()[1] and None, writer.returncode)[1] for writer in writers] == [
        0,
        0,
        0,
    ]
    written = path.read_text().splitlines()
    assert sorted(written) == sorted(
        f"{name} {n} " + "x" * 3000 for name in ("one", "two", "three") for n in range(50)
    )


def test_a_line_that_is_not_written_whole_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    leave_line(Output(path, HISTORY), line("a"))
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.base.files.os.fsync", full)
    assert "No space left" in leave_line(Output(path, HISTORY), line("b", 1))
    assert path.read_bytes() == before


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="the history cannot be read"):
        read_history(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in leave_line(Output(tmp_path / "pipe", HISTORY), line("a"))
    assert Path(tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(("tries", "chance"), [(0, 0.0), (1, 0.05), (14, 0.5123), (45, 0.9006)])
def test_in_many_attempts_a_loss_passes_once(tries, chance):
    assert chance_of_a_pass(tries) == pytest.approx(chance, abs=1e-4)
    assert stress_json(outcome_with(EMPTY, attempt=tries))["chance_of_a_pass"] == pytest.approx(
        chance, abs=1e-4
    )


def test_each_candidate_is_one_attempt_on_the_same_data_by_the_same_checks():
    others = [
        line("a"),
        line("a", failing=("good",)),
        line("b", failing=("good",)),
        *(
            line("c", errors=("no data",)),
            line("d", omissions=("half",)),
            line("e", checks_sha256="0" * 64),
        ),
        line("f", data={**EMPTY.inputs.data, "sha256": "0" * 64}),
    ]
    assert [attempt_of(line(name), others) for name in ("a", "b", "z")] == [2, 2, 3]
    assert attempt_of(line("z", errors=("no data",)), others) == 0
    assert attempt_of(line("z"), []) == 1
