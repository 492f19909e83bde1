"""The benchmark of a gate's parts: which part and work time counts for, and its table."""

import json
import threading
import time

import pytest

from benchmarks.real.part_times import (
    CHECKS,
    DECODING,
    INFERENCE,
    OTHER,
    PERTURBING,
    REST,
    SELF_CHECKS,
    PartTimes,
)
from benchmarks.real.parts import LINES, GateTimes, read_times, table_of


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


def busy(seconds):
    """Keep this thread busy until it has used so many CPU seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_time_counts_for_the_innermost_part():
    clock = Clock()
    times = PartTimes(clock)

    clock.now = 1.0
    with times.part(CHECKS):
        clock.now = 3.0
        with times.part(SELF_CHECKS):
            clock.now = 7.0
        clock.now = 15.0
    clock.now = 31.0

    totals = {part: seconds for part, work, seconds in times.seconds() if work == OTHER}
    assert totals == {REST: 17.0, CHECKS: 10.0, SELF_CHECKS: 4.0}


def test_a_part_can_change_its_name_on_the_way():
    clock = Clock()
    times = PartTimes(clock)

    with times.part(CHECKS):
        clock.now = 2.0
        times.switch(SELF_CHECKS)
        clock.now = 5.0

    totals = {part: seconds for part, work, seconds in times.seconds() if work == OTHER}
    assert totals == {REST: 0.0, CHECKS: 2.0, SELF_CHECKS: 3.0}


def test_perturbing_is_no_part_of_inference():
    times = PartTimes()

    def batch():
        with times.work(INFERENCE):
            with times.work(PERTURBING):
                busy(0.05)
            busy(0.1)

    with times.part(CHECKS):
        thread = threading.Thread(target=batch)
        thread.start()
        thread.join()

    works = {work: seconds for part, work, seconds in times.seconds() if part == CHECKS}
    assert works[PERTURBING] == pytest.approx(0.05, abs=0.03)
    assert works[INFERENCE] == pytest.approx(0.1, abs=0.03)


def test_the_table_has_seconds_and_shares_of_all_processes(tmp_path):
    inner = [(DECODING, OTHER, 10.0), (CHECKS, PERTURBING, 5.0), (CHECKS, INFERENCE, 60.0)]
    outer = [(REST, OTHER, 25.0)]
    for name, rows in (("1", inner), ("2", outer)):
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))

    gate = GateTimes("resnet18", 1000, "float32", "cold", read_times(tmp_path))

    assert gate.total == 100.0
    assert sum(gate.line(name) for name in LINES) == gate.total
    lines = table_of([gate]).splitlines()
    assert lines[0] == "|  | resnet18, 1,000 images, float32, cold |"
    assert "| inference | 60.0 s, 60% |" in lines
    assert "| overview | 0.0 s, 0% |" in lines
    assert lines[-1] == "| all | 100.0 s |"
