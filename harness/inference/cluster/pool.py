"""Distribution of a call to the workers of a cluster: ranges of inputs, repeated if lost, joined by position."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from harness.inference.backend import BackendLostError
from harness.inference.cluster.actors import TRIES, Actors, ActorState, in_a_line
from harness.inference.cluster.scheduling import Range, Ranges, speeds
from harness.inference.cluster.serialization import SentPixels, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.inference.backend import BatchTask, Perturbed
    from harness.inference.cluster.worker import LogitsTask, RangeResult
    from harness.networks.options import BackendOptions

_MOST_BYTES, _MOST_BATCHES = 32 << 20, 64
"""Limits of a range, so a lost worker costs little."""
_LATE, _LATE_SECONDS, _LATE_AT_FIRST = 3.0, 2.0, 30.0
"""A range is late after this factor of the slowest time per input so far, and at least this many seconds. The third
value holds before any range is done. An idle worker repeats a late range."""


@dataclass
class _Call:
    """The ranges of one call, their results, their failures, and the longest time per input so far."""

    inputs: Perturbed
    ranges: Ranges
    results: dict[Range, RangeResult] = field(default_factory=dict)
    failed: Counter[Range] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def done(self) -> int:
        return sum(map(len, self.results))


class Pool(Actors):
    """The workers of a cluster, and this process's pixels in the object store."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self._store = SentPixels()
        self._calls = 0

    def run(self, model: Any, task: LogitsTask | BatchTask, inputs: Perturbed, *, size: int) -> list[RangeResult]:
        """Return the results of ranges that are multiples of `size`, in the order of the inputs.

        `model` is a reference into the object store. An error of the model is raised here. Raises `BackendLostError` if
        a range fails three times or no worker is left; every later call then raises it too.
        """
        if self.lost:
            raise BackendLostError(self.lost)
        self.start()
        self._calls += 1
        most = max(1, min(_MOST_BATCHES, _MOST_BYTES // max(1, size * math.prod(inputs.shape))))
        call = _Call(inputs, Ranges(len(inputs), size=size, workers=len(self.actors), most=most))
        for _ in self._shown(call):
            for actor in self.actors:
                if actor.facts and actor.pending is None and (some := self._next(call, actor)):
                    self._send(actor, some, model, task, call)
            for actor in self.heard():
                if actor.facts is None:
                    self.welcome(actor)
                else:
                    self._take(actor, call)
            self.expect_somebody(f"{len(inputs) - call.done} of {inputs} have no prediction")
        return [call.results[some] for some in sorted(call.results)]

    def _shown(self, call: _Call) -> Iterator[None]:
        """Yield until all inputs are done, with a progress bar on a terminal after two seconds."""
        from tqdm import tqdm

        bar: tqdm[NoReturn] = tqdm(
            total=len(call.inputs),
            desc=f"{len(self.actors)} workers",
            unit="image",
            delay=2,
            leave=False,
            disable=None,
        )
        with bar:
            while call.done < len(call.inputs):
                yield
                if not bar.disable:
                    bar.set_postfix_str(speeds(self.done.values()), refresh=False)
                bar.update(call.done - bar.n)

    def _next(self, call: _Call, actor: ActorState) -> Range | None:
        """Return the next range of an idle worker: a new one, or else one that is late on another worker."""
        if (some := call.ranges.next(actor.number)) is not None:
            return some
        now = time.monotonic()
        given = Counter(each.range for each in self._busy)
        for each in self._busy:
            limit = max(_LATE_SECONDS, _LATE * call.slowest * len(each.range)) if call.slowest else _LATE_AT_FIRST
            if now - each.since > limit and given[each.range] == 1 and each.range not in call.results:
                return each.range
        return None

    def _send(self, actor: ActorState, some: Range, model: Any, task: LogitsTask | BatchTask, call: _Call) -> None:
        from ray.exceptions import RayError

        part = call.inputs.only(np.arange(some.start, some.stop))
        try:
            sent, pages = self._store.sent(part, reads_files=not actor.blind)
        except RayError as error:
            self.lose(f"images {some} of {call.inputs} cannot be put into the object store: {in_a_line(error)}")
        # In a list, Ray passes the reference itself, and the worker reads the model only once.
        actor.pending = actor.handle.run.remote([model], task, packed(sent), pages)
        actor.range, actor.call, actor.since = some, self._calls, time.monotonic()

    def _take(self, actor: ActorState, call: _Call) -> None:
        """Store a worker's result, or its failure; a late result is ignored."""
        import ray
        from ray.exceptions import RayError

        pending, some, late = actor.pending, actor.range, actor.call != self._calls or actor.range in call.results
        actor.pending = None
        try:
            result: RangeResult = ray.get(pending)
        except RayError as error:
            # The worker returns errors of the model, so this one is Ray's; the range itself may be sound.
            self.replace(actor, error)
            if not late:
                call.failed[some] += 1
                if call.failed[some] >= TRIES:
                    self.lose(
                        f"images {some} of {call.inputs} failed {TRIES} times, the last time by {self.last_error}"
                    )
                if not any(each.range == some for each in self._busy):  # Another worker may have it already.
                    call.ranges.again(some)
            return
        if result.blind:
            actor.blind = True
            if not late:
                call.ranges.again(some)
            return
        if late:
            return
        if result.error is not None:
            raise result.error
        call.results[some] = result
        call.slowest = max(call.slowest, result.seconds / len(some))
        done = self.done[actor.number]
        done.inputs, done.seconds = done.inputs + len(some), done.seconds + result.seconds

    @property
    def _busy(self) -> list[ActorState]:
        """Return the workers with a range of this call."""
        return [each for each in self.actors if each.pending is not None and each.call == self._calls]
