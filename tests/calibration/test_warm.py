"""Runs of the gate in copies of one process: what one run does to its process is no matter of the next."""

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest
from zoo import Zoo

from harness.base.errors import CalibrationError
from harness.calibration.recording import Recording, record
from harness.calibration.warm import WarmProcess
from harness.checks import read_checks

OPTIONS = ("--stress-set", "data=npz:zoo.npz")
DANGEROUS = """
import os, signal
from pathlib import Path

from harness.measures import accuracy
from harness.plugin import check

SEEN = []


@check("clean")
def test_clean(candidate, images, evidence, stress_check):
    name = os.environ["MODEL"] = os.environ.get("MODEL", "") + str(candidate.path)
    SEEN.append(name)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    assert len(SEEN) == 1
    assert name.count("safetensors") == 1
    evidence.show(stress_check.judge(accuracy(candidate.predict(images))))
"""


@pytest.fixture
def recording(pytester):
    zoo = Zoo(pytester.path)
    zoo.bind('[[check]]\nid = "clean"\nfamily = "clean"\nmetric = "accuracy"\n')
    for path in zoo.tests.glob("test_*.py"):
        path.unlink()
    (zoo.tests / "test_own.py").write_text(DANGEROUS)
    for name, jitter in (("one", 0.02), ("crash", 0.3), ("two", 0.5)):
        zoo.save(f"{name}.safetensors", seed=1, jitter=jitter)
    return Recording(Path("stress_tests"), read_checks(zoo.checks), (), OPTIONS)


@pytest.fixture
def process(recording):
    with closing(WarmProcess(0, recording.options)) as process:
        yield process


def test_a_crash_is_named_and_leaves_the_other_runs_alone(recording, process):
    first = record(Path("one.safetensors"), recording, process.run)
    with pytest.raises(CalibrationError, match=r"crash\.safetensors: the stress tests ended with exit status -11"):
        record(Path("crash.safetensors"), recording, process.run)
    other = record(Path("two.safetensors"), recording, process.run)
    assert record(Path("one.safetensors"), recording, process.run) == first
    assert other[0]["value"] != first[0]["value"]


def test_a_lost_process_is_named_and_started_again(recording, process):
    first = record(Path("one.safetensors"), recording, process.run)
    os.kill(process._process.pid, signal.SIGKILL)
    with pytest.raises(CalibrationError, match=r"one\.safetensors: the stress tests ended with exit status -9"):
        record(Path("one.safetensors"), recording, process.run)
    assert record(Path("one.safetensors"), recording, process.run) == first
