"""Scheduling of ranges of inputs to workers, and the workers' speeds."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.base.errors import some_of

if TYPE_CHECKING:
    from collections.abc import Collection

_PARTS = 4
"""A range is one part in this many of the rest of a share, so all workers finish at nearly the same time."""
SLOW = 0.5
"""Share of the median speed below which a worker is a straggler."""


@dataclass(frozen=True, order=True)
class Range:
    """The inputs from `start` to before `stop`: whole batches, except the last range of a call."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.start} to {self.stop - 1}"


class Ranges:
    """Divides `count` inputs among the workers in ranges of whole batches, at most `most` batches each.

    Each worker has its own share, the same in each call with as many inputs, so it sees the same images again. The
    inputs of a batch depend only on `size`, and so do the bits.
    """

    def __init__(self, count: int, *, size: int, workers: int, most: int) -> None:
        self._count, self._size, self._most = count, size, most
        batches = -(-count // size)
        ends = [batches * number // workers for number in range(workers + 1)]
        self._shares = [[start, stop] for start, stop in pairwise(ends)]
        self._again: deque[Range] = deque()

    def again(self, lost: Range) -> None:
        """Take a lost range back; it is the next to be given out."""
        self._again.append(lost)

    def next(self, worker: int) -> Range | None:
        """Return a worker's next range; None if all have been given out."""
        if self._again:
            return self._again.popleft()
        share = self._shares[worker % len(self._shares)]
        if share[0] == share[1]:
            share = max(self._shares, key=lambda each: each[1] - each[0])
        left = share[1] - share[0]
        if not left:
            return None
        start = share[0]
        share[0] += min(self._most, max(1, left // _PARTS))
        return Range(start * self._size, min(share[0] * self._size, self._count))


@dataclass
class Throughput:
    """Number of inputs that a worker has computed, and its seconds."""

    name: str
    inputs: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> float:
        """Return inputs per second."""
        return self.inputs / self.seconds if self.seconds else 0.0


def stragglers(done: Collection[Throughput]) -> list[Throughput]:
    """Return the workers that are much slower than the median."""
    fast = [each for each in done if each.seconds]
    middle = statistics.median(each.speed for each in fast) if fast else 0.0
    return [each for each in fast if each.speed < SLOW * middle]


def speeds(done: Collection[Throughput]) -> str:
    """Return the speeds of workers as text, with the names of slow ones."""
    found = [f"{each.speed:.3g}" for each in done if each.seconds]
    slow = [f"{each.name} ({each.speed:.3g}/s)" for each in stragglers(done)]
    each = f"{some_of(found, shown=8)} images/s" if found else "nothing done yet"
    return each + (f"; slow: {some_of(slow)}" if slow else "")
