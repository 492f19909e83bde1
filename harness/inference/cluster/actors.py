"""The workers of a cluster: started, told apart by what decides bits, replaced when they die, missed in the end."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from harness.base.errors import InputError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.connection import connect
from harness.inference.cluster.scheduling import Range, Throughput
from harness.inference.cluster.worker import Worker, place
from harness.inference.platforms import Platform, this_platform

if TYPE_CHECKING:
    from harness.networks.running import RayOptions

TRIES = 3
"""Precision often a range is tried, or each worker started, before the run ends."""
STARTING, GATHERING, PATIENCE = 180.0, 30.0, 30.0
"""Seconds until the first workers are there; for which the others are waited for then; and for which there may be none
later on."""
TICK = 1.0
"""Seconds between two looks at how things stand."""
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
"""Precision the last line of a traceback begins."""


@dataclass(eq=False)
class ActorState:
    """A worker as the driver knows it: its actor, what it said of itself, and what it is doing."""

    number: int
    due: float = 0.0
    """When it is to be started."""
    handle: Any = None
    starting: Any = None
    facts: Platform | None = None
    pending: Any = None
    call: int = 0
    range: Range = field(default_factory=lambda: Range(0, 0))
    since: float = 0.0
    blind: bool = False
    """True if its node lacks the files of images."""


class Actors:
    """The workers of one cluster."""

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self.kinds: Counter[str] = Counter()
        """Platforms that decide bits, with the number of workers of each, as found at the start."""
        self.done: dict[int, Throughput] = {}
        self.actors: list[ActorState] = []
        self._facts: list[Platform] = []
        self.lost = ""
        self._failed_starts = 0
        self._nobody_since: float | None = None
        self.last_error = "it did not start in time"

    @property
    def device(self) -> torch.device:
        """Return the kind of device that workers run on."""
        return torch.device("cuda" if self.options.gpus else "cpu")

    @property
    def bfloat16(self) -> bool:
        """Return whether bfloat16 is fast on all workers."""
        return all(each.bfloat16 for each in self._facts)

    @property
    def like_this_process(self) -> bool:
        """Return whether all workers compute what this process would, to the last bit."""
        if self.device.type == "cuda" and not torch.cuda.is_available():
            return False
        return set(self.kinds) == {this_platform(self.device).kind}

    def start(self) -> None:
        """Join the cluster and have its workers started; nothing if that has been done.

        Raises `InputError` for a cluster without room for a worker, and for workers with other code than this process.
        """
        if self.actors:
            return
        connect(self.options)
        count = self._count()
        self.actors = [ActorState(number) for number in range(count)]
        started = roomy = time.monotonic()
        first = 0.0
        while waiting := [each for each in self.actors if each.facts is None]:
            now = time.monotonic()
            if now - started > STARTING or (first and now - first > GATHERING):
                break
            roomy = now if self._room() >= 1 else roomy
            if now - roomy > PATIENCE:
                self.lose(f"no node is left that a worker could start on, and none has come for {PATIENCE:.0f} s")
            for actor in self.heard():
                self.welcome(actor)
            if not first and len(waiting) < count:
                first = now
        self._facts = [each.facts for each in self.actors if each.facts]
        if not self._facts:
            self.lose(f"none of {count} workers started within {STARTING:.0f} s: {self.last_error}")
        self.kinds = Counter(each.kind for each in self._facts)

    def _room(self) -> float:
        """Return for how many workers the cluster has room at present."""
        import ray

        found, gpus = ray.cluster_resources(), self.options.gpus
        return float(min(found.get("CPU", 0.0), found.get("GPU", 0.0) / gpus if gpus else math.inf))

    def _count(self) -> int:
        import ray

        if (room := self._room()) < 1:
            found, gpus = ray.cluster_resources(), self.options.gpus
            has = f"{found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} GPUs"
            raise InputError(
                f"the cluster has {has}, a worker takes one core" + (f" and {gpus:g} GPUs" if gpus else ""),
                setting="backend ray",
            )
        return int(min(room, self.options.workers or math.inf))

    def heard(self) -> list[ActorState]:
        """Return the workers of which there is news, after a while at most; those that are due are started."""
        import ray

        for actor in self.actors:
            if actor.handle is None and time.monotonic() >= actor.due:
                self._begin(actor)
        awaited = {each.pending if each.facts else each.starting: each for each in self.actors}
        awaited.pop(None, None)
        if not awaited:
            time.sleep(TICK)
            return []
        references = list(awaited)
        ready, _ = ray.wait(references, timeout=TICK)
        if ready:
            ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return [awaited[reference] for reference in ready]

    def _begin(self, actor: ActorState) -> None:
        import ray

        options = {"num_cpus": 1, "num_gpus": self.options.gpus, "max_restarts": 0}
        # No objects among the arguments: an actor whose constructor took some cannot be started again (ray#53727).
        actor.handle = ray.remote(Worker).options(**options).remote(*place(), gpus=bool(self.options.gpus))
        actor.starting = actor.handle.facts.remote()

    def welcome(self, actor: ActorState) -> None:
        """Take what a worker says of itself, or start another one in its place."""
        import ray
        from ray.exceptions import RayError

        try:
            facts: Platform = ray.get(actor.starting)
        except RayError as error:
            self._failed_starts += 1
            # Once there have been some, a node may be leaving: how long they are waited for then is said elsewhere.
            if not self.kinds and self._failed_starts >= TRIES * len(self.actors):
                self.lose(f"workers do not start: {in_a_line(error)}")
            self.replace(actor, error)
            return
        if facts.code != this_platform(torch.device("cpu")).code:
            self.close()
            raise InputError(
                f"node {facts.node} has other code of the harness than this process; install the same on all nodes",
                setting="backend ray",
            )
        if self.kinds and facts.kind not in self.kinds:
            # It came late: what the run's numbers are to be compared with was said at its start.
            self.last_error = f"being of another kind than those that the run began with ({facts.kind})"
            self._end(actor)
            self.actors.remove(actor)
            return
        actor.facts, self._failed_starts = facts, 0
        self.done[actor.number] = self.done.get(actor.number) or Throughput(f"worker {actor.number} on {facts.node}")

    def replace(self, actor: ActorState, error: Exception) -> None:
        """Have another worker started in the place of one that is of no use any more; after a while if starts fail."""
        self.last_error = in_a_line(error)
        self._end(actor)
        due = time.monotonic() + (TICK if self._failed_starts else 0)
        self.actors[self.actors.index(actor)] = ActorState(actor.number, due)

    def expect_somebody(self, waiting: str) -> None:
        """End the run, which waits for what is said here, when there has been no worker for a while."""
        if any(each.facts for each in self.actors):
            self._nobody_since = None
            return
        now = time.monotonic()
        self._nobody_since = self._nobody_since or now
        if now - self._nobody_since > PATIENCE:
            self.lose(
                f"no worker is left, and none has come for {PATIENCE:.0f} s; {waiting}; the last one was lost by "
                f"{self.last_error}"
            )

    def lose(self, why: str) -> NoReturn:
        """Raise `BackendLostError` now, and whenever something is asked for from now on."""
        self.lost = f"the cluster could not do its work: {why}; nothing is judged on a part, run again when it can"
        raise BackendLostError(self.lost)

    def close(self) -> None:
        """End all workers."""
        for actor in self.actors:
            self._end(actor)
        self.actors = []

    def _end(self, actor: ActorState) -> None:
        import ray

        with suppress(Exception):  # It may be gone already.
            ray.kill(actor.handle)


def in_a_line(error: Exception) -> str:
    """Return the kind of an error of Ray's, the first line of what it says, and what was raised if it quotes that."""
    lines = [line.rstrip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()] or [""]
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    return ": ".join((type(error).__name__, lines[0], *raised[-1:]))
