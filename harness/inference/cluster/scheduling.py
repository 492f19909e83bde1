"""Which range of the inputs each worker of a cluster takes next, and how fast each is."""

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
"""A worker takes this part of what is left of a share at a time, so that all are done at nearly the same time."""
SLOW = 0.5
"""A worker below this part of the middle one's speed is a straggler."""


@dataclass(frozen=True, order=True)
class Range:
    """The inputs from `start` to before `stop`; all but the last of a call are whole batches."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.start} to {self.stop - 1}"


class Ranges:
    """Hands out `count` inputs to so many workers in ranges that are multiples of the batch, at most `most` batches.

    Each worker has a share of its own, the same in each call with as many inputs, so that it meets the same images
    again. Which inputs go together into a batch depends on `size` alone, and so do the bits.
    """

    def __init__(self, count: int, *, size: int, workers: int, most: int) -> None:
        self._count, self._size, self._most = count, size, most
        batches = -(-count // size)
        ends = [batches * number // workers for number in range(workers + 1)]
        self._shares = [[start, stop] for start, stop in pairwise(ends)]
        self._again: deque[Range] = deque()

    def again(self, lost: Range) -> None:
        """Take a range back that is to be handed out once more, before all others."""
        self._again.append(lost)

    def next(self, worker: int) -> Range | None:
        """Return what a worker is to do next; None when everything has been handed out."""
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
    """Number of inputs that a worker has answered, and the seconds it took."""

    name: str
    inputs: int = 0
    seconds: float = 0.0

    @property
    def speed(self) -> float:
        """Return inputs per second."""
        return self.inputs / self.seconds if self.seconds else 0.0


def stragglers(done: Collection[Throughput]) -> list[Throughput]:
    """Return the workers that are much slower than the one in the middle."""
    fast = [each for each in done if each.seconds]
    middle = statistics.median(each.speed for each in fast) if fast else 0.0
    return [each for each in fast if each.speed < SLOW * middle]


def speeds(done: Collection[Throughput]) -> str:
    """Return in words how fast workers are, and which are slow."""
    found = [f"{each.speed:.3g}" for each in done if each.seconds]
    slow = [f"{each.name} ({each.speed:.3g}/s)" for each in stragglers(done)]
    each = f"{some_of(found, shown=8)} images/s" if found else "nothing done yet"
    return each + (f"; slow: {some_of(slow)}" if slow else "")
