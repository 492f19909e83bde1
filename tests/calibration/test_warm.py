"""Runs of the gate in copies of one process.

A run that changes its process does not change the next run.
"""

import signal
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from zoo import Zoo, run_here

from harness.base.errors import CalibrationError
from harness.calibration.recording import Recording, record
from harness.calibration.warm import WarmProcess, WarmProcesses
from harness.checks import read_checks
from harness.run.inner import execute

OPTIONS = ("--stress-set", "data=npz:zoo.npz")
DANGEROUS = """
import os, signal
from pathlib import Path

from harness.measures import accuracy
from harness.plugin import check

SEEN = []


@check("clean")
def test_clean(candidate, images, evidence, stress_check):
    name = os.environ["MODEL"] = os.environ.pop("MODEL", "") + str(candidate.path)
    SEEN.append(name)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    assert len(SEEN) == 1
    assert name.count("safetensors") == 1
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""


def test_runs_are_those_of_processes_of_their_own(pytester, monkeypatch):
    zoo = Zoo(pytester.path)
    zoo.bind('[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n')
    for path in zoo.tests.glob("test_*.py"):
        path.unlink()
    (zoo.tests / "test_own.py").write_text(DANGEROUS)
    one, crash, two = (
        zoo.save(f"{name}.safetensors", seed=1, jitter=jitter).relative_to(zoo.root)
        for name, jitter in (("one", 0.02), ("crash", 0.3), ("two", 0.5))
    )
    recording = Recording(Path("stress_tests"), read_checks(zoo.checks), (), OPTIONS)
    with monkeypatch.context() as patched:
        run_here(patched, pytester, [])
        here = record(one, recording, execute)
    monkeypatch.delenv("MODEL", raising=False)
    with closing(WarmProcess(0, recording.options)) as process:
        assert record(one, recording, process.run) == here
        with pytest.raises(
            CalibrationError,
            match=r"crash\.safetensors: the stress tests ended with exit status -11",
        ):
            record(crash, recording, process.run)
        assert record(two, recording, process.run)[0]["value"] != here[0]["value"]


DATA = """
import os, time
from pathlib import Path

def load():
    with Path("loads.txt").open("a") as file:
        print(os.getpid(), file=file)
    if Path("crash").exists():
        os.abort()
    while Path("slow").exists():
        time.sleep(0.1)
    raise ValueError("no data")
"""
OWN_DATA = ("--stress-set", "data=own_data:load")


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_data.py").write_text(DATA)
    return tmp_path


def test_a_process_that_is_lost_is_started_again(own_data):
    request, crash = own_data / "request.json", own_data / "crash"
    crash.touch()
    with closing(WarmProcess(0, OWN_DATA)) as process:
        status, printed = process.ask(request, ["--version"])
        assert status == -signal.SIGABRT
        assert "the process of the run was lost: its process was ended by SIGABRT" in printed[-1]

        crash.unlink()
        assert process.ask(request, ["--version"])[0] == 0


def test_processes_stay_for_the_next_round(own_data):
    statuses = []

    def ask(process):
        status, _ = process.ask(own_data / "request.json", ["--version"])
        statuses.append(status)

    with closing(WarmProcesses(OWN_DATA)) as processes:
        processes.share(ask, most=1)
        processes.share(ask, most=1)
    assert statuses == [0, 0]
    assert len((own_data / "loads.txt").read_text().split()) == 1


def test_a_closed_process_ends_its_run_and_starts_no_other(own_data):
    (own_data / "slow").touch()
    process = WarmProcess(0, OWN_DATA)
    start = time.monotonic()
    threading.Timer(8.0, process.close).start()
    status, _ = process.ask(own_data / "request.json", ["--version"])
    again, printed = process.ask(own_data / "request.json", ["--version"])

    assert status == again == -signal.SIGKILL
    assert "its process was closed" in printed[-1]
    assert time.monotonic() - start < 45


def test_the_error_of_a_call_is_raised_after_all_have_ended():
    def fail(process):
        raise CalibrationError("no such model")

    with (
        closing(WarmProcesses(())) as processes,
        pytest.raises(CalibrationError, match="no such model"),
    ):
        processes.share(fail, most=2)
