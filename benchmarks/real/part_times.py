"""Plugin of pytest that times the parts of a gate run, in CPU seconds of all its processes.

Load it by `-p benchmarks.real.part_times`. The outer and the inner process of the run each leave a
JSON file in the folder that the environment variable `PART_TIMES` names: a list of [part, work,
seconds]. The work within a part is `perturbing`, `inference` or `other`.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

FOLDER = "PART_TIMES"
"""The environment variable that names the folder of the results."""
DECODING, CHECKS, SECOND_OPINIONS, SELF_CHECKS, OVERVIEW, REPORT, REST = PARTS = (
    "decoding",
    "checks",
    "second opinions",
    "self-checks",
    "overview",
    "report",
    "start and rest",
)
"""The parts of a run. Second opinions are the self-checks that ask a model again."""
PERTURBING, INFERENCE, OTHER = WORKS = ("perturbing", "inference", "other")
"""The kinds of work in a part."""
_ASK_AGAIN = {"identity-equals-clean", "model-equals-itself", "answers-are-the-models"}
"""Self-checks that compare a model with itself; all others damage it."""


def with_children() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class PartTimes:
    """CPU seconds by part of a run and kind of work; parts nest, and the innermost one counts.

    The main thread enters and leaves parts, and waits for the threads that work in them.

    `cpu_clock` returns the CPU seconds so far.
    """

    def __init__(self, cpu_clock: Callable[[], float] = with_children) -> None:
        self.cpu_clock = cpu_clock
        self._of_parts: Counter[str] = Counter()
        self._of_works: Counter[tuple[str, str]] = Counter()
        self._open_parts = [REST]
        self._last = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs in the block as a part of this name."""
        self._count()
        self._open_parts.append(name)
        try:
            yield
        finally:
            self._count()
            self._open_parts.pop()

    def switch(self, name: str) -> None:
        """Count what follows in the innermost part as one of this name."""
        self._count()
        self._open_parts[-1] = name

    @contextmanager
    def work(self, name: str) -> Iterator[None]:
        """Count the CPU time of this thread in the block as work of this kind."""
        start = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - start
            with self._lock:
                self._of_works[self._open_parts[-1], name] += seconds

    def seconds(self) -> list[tuple[str, str, float]]:
        """Return the seconds so far of each part and kind of work."""
        self._count()
        rows = []
        for part, total in self._of_parts.items():
            perturbing = self._of_works[part, PERTURBING]
            # Batches are perturbed by the thread that predicts them.
            inference = max(self._of_works[part, INFERENCE] - perturbing, 0.0)
            other = max(total - perturbing - inference, 0.0)
            rows.append((part, PERTURBING, perturbing))
            rows.append((part, INFERENCE, inference))
            rows.append((part, OTHER, other))
        return rows

    def _count(self) -> None:
        now = self.cpu_clock()
        self._of_parts[self._open_parts[-1]] += now - self._last
        self._last = now


TIMES = PartTimes()


def as_part(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with its time counted as a part of this name."""

    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        with TIMES.part(name):
            return function(*arguments, **options)

    return timed


def as_work(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, with the time of its thread counted as work of this kind."""

    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        with TIMES.work(name):
            return function(*arguments, **options)

    return timed


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Time the functions that the parts of a run consist of, in either of its processes."""
    from harness.run.handover import Handover

    plugins = early_config.pluginmanager.get_plugins()
    if any(isinstance(plugin, Handover) for plugin in plugins):
        _time_inner_process()
    else:
        _time_outer_process()
    atexit.register(_write, os.getpid())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop() -> Iterator[None]:
    """Time the tests."""
    with TIMES.part(CHECKS):
        return (yield)


def _time_outer_process() -> None:
    # It may not load PyTorch before the run has ended.
    from harness.report.owner import Owner

    # Its child is the inner process, which has times of its own.
    TIMES.cpu_clock = time.process_time
    Owner.conclude = as_part(REPORT, Owner.conclude)  # type: ignore[method-assign]


def _time_inner_process() -> None:
    from harness.data.options import DataOptions
    from harness.inference import attention, devices, engine, moments, screening
    from harness.plugin import after_tests, hooks
    from harness.run import self_checks as own_checks

    def in_batches(work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return devices.in_batches(as_work(INFERENCE, work), *arguments, **options)

    for module in (attention, engine, moments, screening):
        module.in_batches = in_batches  # type: ignore[attr-defined]
    perturbed = as_work(PERTURBING, engine.Perturbed.__call__)
    engine.Perturbed.__call__ = perturbed  # type: ignore[method-assign]
    DataOptions.load = as_part(DECODING, DataOptions.load)  # type: ignore[method-assign]
    own_checks.self_checks = _by_self_check(own_checks.self_checks)
    after_tests.overview_of = as_part(OVERVIEW, after_tests.overview_of)
    hooks.set_outcome = as_part(REPORT, hooks.set_outcome)


def _by_self_check(self_checks: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(self_checks)
    def timed(*arguments: Any, on_check: Callable[[str, int], None], **options: Any) -> Any:
        def on_timed_check(name: str, count: int) -> None:
            TIMES.switch(SECOND_OPINIONS if name in _ASK_AGAIN else SELF_CHECKS)
            on_check(name, count)

        with TIMES.part(SELF_CHECKS):
            return self_checks(*arguments, on_check=on_timed_check, **options)

    return timed


def _write(process: int) -> None:
    if os.getpid() != process:  # A copy of this process.
        return
    path = Path(os.environ[FOLDER], f"{process}.json")
    path.write_text(json.dumps(TIMES.seconds()), "utf-8")
