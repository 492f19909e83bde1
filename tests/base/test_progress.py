"""Progress where there is no terminal: a line for each tenth, whole, and nothing else."""

import io
import re

import pytest

from harness.base.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def of_a_log(steps: int, *, by: int = 1, **settings) -> list[str]:
    log = io.StringIO()
    with Progress(total=steps, desc="work", file=log, mininterval=0, **settings) as bar:
        for done in range(0, steps, by):
            bar.update(min(by, steps - done))
    written = log.getvalue()
    assert "\r" not in written
    assert written == "" or written.endswith("\n")
    return written.splitlines()


@pytest.mark.parametrize(("steps", "by"), [(1000, 1), (225, 1), (10, 1), (1000, 7)])
def test_a_log_has_a_line_for_each_tenth(steps, by):
    lines = of_a_log(steps, by=by)
    assert len(lines) == 10
    shares = [int(re.match(r"work: +(\d+)%", line)[1]) for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] >= 100
    assert all(10 * at <= share < 10 * at + 10 for at, share in enumerate(shares[:-1], start=1))


def test_short_work_leaves_fewer_lines_and_work_that_is_soon_done_none():
    assert len(of_a_log(3)) == 3
    assert of_a_log(100, delay=60) == []
    (line,) = of_a_log(1000, lines=1)
    assert line.startswith("work: 100%")
    screen = Terminal()
    with Progress(total=100, file=screen, mininterval=0) as bar:
        for _ in range(100):
            bar.update()
    assert screen.getvalue().count("\r") >= 100


def test_totals_known_later_work_begun_anew_and_notes_count():
    log = io.StringIO()
    with Progress(total=None, file=log, mininterval=0) as bar:
        bar.update(1)
        bar.total = 20
        for _ in range(19):
            bar.update(1)
    assert len(log.getvalue().splitlines()) == 10
    log = io.StringIO()
    with Progress(total=10, file=log, mininterval=0) as bar:
        bar.update(10)
        bar.reset()
        bar.set_description("again")
        bar.update(10)
    assert [line.split(":")[0] for line in log.getvalue().splitlines()] == [
        "100%|##########| 10/10 [00",
        "again",
    ]
    log = io.StringIO()
    with Progress(total=10, file=log, mininterval=0) as bar:
        bar.update(5)
        bar.write("a note", file=log)
        bar.update(5)
    assert [line[:6] for line in log.getvalue().splitlines()] == [" 50%|#", "a note", "100%|#"]
    log = io.StringIO()
    assert list(Progress(range(20), file=log, mininterval=0)) == list(range(20))
    assert len(log.getvalue().splitlines()) == 10


def test_progress_in_a_log_breaks_a_silence(monkeypatch):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr("harness.base.progress.time.monotonic", lambda: next(clock))
    lines = of_a_log(12, silence=8.0, lines=1)
    assert len(lines) >= 3, lines
    assert all(line.startswith("work: ") for line in lines)


def test_slow_work_has_a_line_in_a_log_from_its_first_seconds(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("harness.base.progress.time.monotonic", lambda: next(clock))
    lines = of_a_log(1000, by=10)
    assert re.match(r"work: +[12]%", lines[0])
    assert len(lines) == 11, "one more than a line for each tenth"


def test_a_long_step_is_drawn_by_ticks(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("harness.base.progress.time.monotonic", lambda: next(clock))
    log = io.StringIO()
    with Progress(total=3, desc="work", file=log, mininterval=0, silence=5.0) as bar:
        for _ in range(30):
            bar.tick(1000)
        assert bar.n == 0
    lines = log.getvalue().splitlines()
    assert len(lines) >= 3
    assert all("0/3" in line for line in lines)


def test_no_tick_draws_before_the_delay_nor_when_disabled():
    for settings in ({"delay": 60}, {"disable": True}):
        log = io.StringIO()
        with Progress(total=3, file=log, mininterval=0, silence=0.0, **settings) as bar:
            bar.tick()
        assert log.getvalue() == ""
