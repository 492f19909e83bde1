"""Threads that last from one call to the next and run batches in parallel, each on one core.

They are daemons, unlike those of the standard library's pool, so a model that never returns cannot keep the process
alive. Nothing waits for a thread that does not return: another takes its place.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from harness.base.errors import Interruption, raised
from harness.inference.devices import without_tf32
from harness.networks.process import Settings, streams_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

T = TypeVar("T")

_watching: list[Callable[[int], None]] = []
"""Functions that are called with the number of inputs of each finished batch."""

_PATIENCE = 1.0
"""Seconds that a batch gets to end if its results are no longer needed."""


def in_batches(work: Callable[[np.ndarray], T], positions: np.ndarray, *, size: int, workers: int) -> list[T]:
    """Return the results of `work` for batches of positions, in order; `workers` run in parallel on one thread each.

    Raises the error of the first batch that fails. `work` itself may call this function.
    """
    batches = [positions[start : start + size] for start in range(0, len(positions), size)]
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(batches)):
        waiting.put(number)
    finished: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}
    abandoned = threading.Event()

    def take() -> None:
        while not (errors or abandoned.is_set()):
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                try:
                    results[number] = work(batches[number])
                finally:
                    settings.restore()
            except (Exception, Interruption) as error:  # The waiting thread raises it again.
                errors[number] = error
            except BaseException as error:  # The model raised it; only the main thread may end a run.
                errors[number] = raised(error)
            finished.put(number)

    with _one_thread_per_worker(), streams_open():
        settings = Settings()
        ended = [_started(take) for _ in range(min(workers, len(batches)))]
        try:
            for _ in batches:
                if (number := finished.get()) in errors:
                    break
                for watch in _watching:
                    watch(len(batches[number]))
        finally:
            abandoned.set()
            for end in ended:
                end.wait(_PATIENCE)
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(batches))]


@contextmanager
def watched(watch: Callable[[int], None]) -> Iterator[None]:
    """Call `watch` with the number of inputs of each finished batch while the block runs."""
    _watching.append(watch)
    try:
        yield
    finally:
        _watching.remove(watch)


class _Worker:
    """A thread that waits for jobs; it is in `_idle` whenever it has none."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="harness-worker", daemon=True).start()

    def _work(self) -> None:
        while True:
            job, ended = self.jobs.get()
            # A model may have changed the number in its last batch, and PyTorch stores it per thread.
            if torch.get_num_threads() != 1:
                torch.set_num_threads(1)
            try:
                job()
            finally:
                del job  # A waiting thread must not keep a model alive.
                _idle.append(self)
                ended.set()


_idle: deque[_Worker] = deque()
"""The workers without a job. A deque's own operations are atomic."""


def _begin_copy() -> None:
    """Forget all threads in a fork of this process, which has none of them and would wait forever."""
    _idle.clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_copy)


def _started(job: Callable[[], None]) -> threading.Event:
    """Give a job to a worker, a new one if none is idle; returns the event of its end."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    ended = threading.Event()
    worker.jobs.put((job, ended))
    return ended


@contextmanager
def _one_thread_per_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with without_tf32():
            yield
    finally:
        torch.set_num_threads(threads)
