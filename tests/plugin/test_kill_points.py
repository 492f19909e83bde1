"""A run that dies or fails at any hook, or between any two writes, leaves a refusal or its whole outcome.

One run lists the points. Each further run is a fork of this process, which has imported everything, and does one thing
at one of them.
"""

import gc
import itertools
import json
import os
import shutil
import signal
import sys
import types
from pathlib import Path

import pytest
import seaborn  # noqa: F401  Each run would import it.
from _pytest import hookspec
from outcomes import OLD_REPORTS, leave_old_reports
from zoo import CLEAN, Zoo, hypothesis_as_it_starts

from harness.report.refusal import UNFINISHED, agreed_verdict
from harness.run import selfcheck
from harness.run.history import read_history
from harness.run.outcome import SelfCheck
from harness.run.status import REPORTS

ARGUMENTS = (
    *("stress_tests", "--stress-set=data=npz:zoo.npz", "--stress-set=no_overview=true", "--stress-no-cache"),
    *("--baseline=none", "--incumbent=none", "-p", "no:cacheprovider", "-p", "no:html"),
)


def raising(error):
    def fail():
        raise error

    return fail


KILLS = {"exit": lambda: os._exit(0), "kill": lambda: os.kill(os.getpid(), signal.SIGKILL)}
ERRORS = {
    "error": ValueError("on purpose"),
    "interrupt": KeyboardInterrupt(),
    "leave": SystemExit(0),
    "memory": MemoryError(),
    "full": OSError(28, "No space left on device"),
}
FAULTS = {**KILLS, **{name: raising(error) for name, error in ERRORS.items()}}
WRITES = ("replace", "fsync")


class Points:
    """The points that a run meets: every hook, before and after all others, and every write, before and after it."""

    def __init__(self, at: str = "", fault: str = "", log: Path | None = None):
        self.at, self.fault, self.log, self.met = at, fault, log, []

    def meet(self, name):
        if name not in self.met:
            self.met.append(name)
            if self.log:
                self.log.write_text("\n".join(self.met))
            if name == self.at:
                FAULTS[self.fault]()

    def hooks(self, when: str):
        """Return a plugin that meets each hook of pytest first or last."""

        def met(name):
            return pytest.hookimpl(**{f"try{when}": True})(lambda: self.meet(f"{name} {when}"))

        plugin = types.ModuleType(f"points_{when}")
        vars(plugin).update((name, met(name)) for name in vars(hookspec) if name.startswith("pytest_"))
        return plugin

    def watched(self, name, write, numbers):
        def watch(*given):
            what = f"{name} {next(numbers)} {Path(given[-1]).name if name == 'replace' else ''}"
            self.meet(f"{what} before")
            write(*given)
            self.meet(f"{what} after")

        return watch


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    zoo = Zoo(tmp_path_factory.mktemp("points"), tests=("clean",))
    zoo.bind(CLEAN)
    return zoo


@pytest.fixture(scope="module")
def points(zoo):
    """The points of a run that passes."""
    log = zoo.root / "points.txt"
    assert run(zoo, Points(log=log)) == 0, (zoo.root / "output.txt").read_text()
    assert expect_agreement(zoo, 0) == "pass"
    return log.read_text().splitlines()


def run(zoo, points: Points, *arguments) -> int:
    """Run the gate over old reports in a fork of this process; return its exit status, negative for a signal."""
    reports = zoo.root / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    leave_old_reports(reports)
    process = os.fork()
    if not process:
        gc.freeze()  # Pytest collects garbage at its end, and most of it is of this process.
        os.chdir(zoo.root)
        output = Path("output.txt").open("w", buffering=1)  # noqa: SIM115  Until the process ends.
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        status, sys.stdout, sys.stderr = 1, output, output
        selfcheck.self_checks = lambda *_, **__: (SelfCheck("none", "pass", "not tried here"),)  # They take longest.
        numbers = itertools.count()
        for name in WRITES:
            setattr(os, name, points.watched(name, getattr(os, name), numbers))
        try:
            with hypothesis_as_it_starts():
                plugins = [points.hooks("first"), points.hooks("last")]
                status = pytest.main([*ARGUMENTS, *arguments], plugins=plugins)
        except SystemExit as ended:
            status = ended.code or 0
        except KeyboardInterrupt:
            status = 130
        except BaseException as error:
            print(repr(error))
        finally:
            output.flush()
            os._exit(int(status))
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def expect_agreement(zoo, status: int, *, at: str = "", fault: str = "") -> str:
    """Assert that status, reports and history agree; return the verdict of the reports, "old" for those of before."""
    said = f"{fault} at {at}: status {status}\n{(zoo.root / 'output.txt').read_text()}"
    reports = zoo.root / "reports"
    content = {name: (reports / name).read_text() for name in REPORTS}
    history = [line.verdict for line in read_history(reports / "history.jsonl").lines]
    if content == OLD_REPORTS:
        assert not history, said
        assert status != 0 or fault in {*KILLS, "leave"}, said  # Nothing helps before pytest has loaded the plugin.
        return "old"
    record = json.loads(content["stress.json"])
    verdict = agreed_verdict(reports, run=record["run"])
    if fault in KILLS:
        assert history in ([], ["pass"] if verdict == "pass" else []), said
        # A kill between two of the three leaves the record, which is the last, as the refusal.
        assert verdict == "pass" or record["errors"] == [UNFINISHED], said
        return verdict
    assert (status, verdict) in {(0, "pass"), (4, "error"), (2, "error"), (2, "partial"), (130, "error")}, said
    # A line of the history that cannot be written is left out, and changes no verdict.
    assert history == [verdict] or (not history and (verdict == "error" or at.startswith(WRITES))), said
    assert [path.name for path in reports.iterdir() if path.name.startswith(".")] == [], said
    return verdict


def disagreements(zoo, cases, *arguments) -> list[str]:
    """Return what is wrong after a run with a fault at a point, for each case."""
    found, ends = [], set()
    for at, fault in cases:
        try:
            ends.add(expect_agreement(zoo, run(zoo, Points(at, fault), *arguments), at=at, fault=fault))
        except AssertionError as error:
            found.append(str(error))
    assert "error" in ends or not cases
    return found


def writes_in(points):
    return [point for point in points if point.startswith(WRITES)]


def test_the_refusal_comes_first_and_the_outcome_last(points):
    replaced = [point.split()[2] for point in points if point.startswith("replace") and point.endswith("before")]
    refused = ["stress.json", "stress.md", "stress.html"]
    assert [name for name in replaced if name in REPORTS] == refused + refused[::-1]
    first, last = (points.index(point) for point in writes_in(points)[:: len(writes_in(points)) - 1])
    assert first < points.index("pytest_load_initial_conftests first")
    assert points.index("pytest_unconfigure last") < last


def hooks_in(points):
    return [point for point in points if not point.startswith(WRITES)]


def each_with(points, faults, *, every=1, start=0):
    """Return every so many points, each with one fault in turn."""
    return list(zip(points[start::every], itertools.cycle(faults), strict=False))


def test_a_run_that_fails_at_a_hook_or_a_write(zoo, points):
    """Some hooks meet one fault each, and every fourth write."""
    cases = each_with(hooks_in(points), FAULTS, every=9)
    cases += each_with(writes_in(points), ("full", "kill", "interrupt"), every=4)
    assert "\n".join(disagreements(zoo, cases)) == ""


@pytest.mark.faults
def test_a_run_that_fails_anywhere(zoo, points):
    """Every hook meets one fault, and every write two."""
    cases = each_with(points, FAULTS) + each_with(writes_in(points), [*FAULTS][3:] + [*FAULTS][:3])
    assert "\n".join(disagreements(zoo, cases)) == ""


@pytest.mark.processes
def test_a_run_with_workers_that_fails_at_a_point(zoo, points):
    writes = writes_in(points)
    cases = [("pytest_runtest_logreport first", "interrupt"), ("pytest_sessionfinish last", "leave")]
    cases += [(writes[-4], "kill"), (writes[-5], "full")]
    assert disagreements(zoo, cases, "-n", "1", "-p", "html") == []
