"""The workers of a cluster: started, grouped by platform, and replaced when they die."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from harness.base.errors import ClusterError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.connection import connect
from harness.inference.cluster.scheduling import Range, Throughput
from harness.inference.cluster.worker import Worker, place
from harness.inference.platforms import Platform, this_platform

if TYPE_CHECKING:
    from harness.networks.options import BackendOptions

TRIES = 3
"""Attempts for a range, or to start a worker, before the run ends."""
STARTING, GATHERING, PATIENCE = 180.0, 30.0, 30.0
"""Most seconds until the first worker starts, then until the others do, and later without any worker."""
TICK = 1.0
"""Seconds between two looks at the workers."""
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b")
"""The beginning of a traceback's last line."""


@dataclass(eq=False)
class ActorState:
    """A worker's state in the driver: its actor, its platform and its present range."""

    number: int
    due: float = 0.0
    """Time of its start."""
    handle: Any = None
    starting: Any = None
    facts: Platform | None = None
    pending: Any = None
    call: int = 0
    range: Range = field(default_factory=lambda: Range(0, 0))
    since: float = 0.0
    blind: bool = False
    """True if the images' files are missing on its node."""


class Actors:
    """The workers of one cluster."""

    def __init__(self, options: BackendOptions) -> None:
        self.options = options
        self.kinds: Counter[str] = Counter()
        """Platforms at the start, by the number of workers of each; platforms determine the bits."""
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
        return torch.device("cuda" if self.options.ray_gpus else "cpu")

    @property
    def bfloat16(self) -> bool:
        """Return whether bfloat16 is fast on all workers."""
        return all(each.bfloat16 for each in self._facts)

    @property
    def like_this_process(self) -> bool:
        """Return whether all workers give the same bits as this process."""
        if self.device.type == "cuda" and not torch.cuda.is_available():
            return False
        return set(self.kinds) == {this_platform(self.device).kind}

    def start(self) -> None:
        """Join the cluster and start its workers, unless they have started.

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
                self.lose(f"no node has room for a worker, and no new node has joined for {PATIENCE:.0f} s")
            for actor in self.heard():
                self.welcome(actor)
            if not first and len(waiting) < count:
                first = now
        self._facts = [each.facts for each in self.actors if each.facts]
        if not self._facts:
            self.lose(f"none of {count} workers started within {STARTING:.0f} s: {self.last_error}")
        self.kinds = Counter(each.kind for each in self._facts)

    def _room(self) -> float:
        """Return the number of workers that the cluster has room for."""
        import ray

        found, gpus = ray.cluster_resources(), self.options.ray_gpus
        return float(min(found.get("CPU", 0.0), found.get("GPU", 0.0) / gpus if gpus else math.inf))

    def _count(self) -> int:
        import ray

        if (room := self._room()) < 1:
            found, gpus = ray.cluster_resources(), self.options.ray_gpus
            has = f"{found.get('CPU', 0):g} cores and {found.get('GPU', 0):g} GPUs"
            raise ClusterError(
                f"the cluster has {has}, a worker needs one core" + (f" and {gpus:g} GPUs" if gpus else ""),
                setting="backend ray",
            )
        return int(min(room, self.options.ray_workers or math.inf))

    def heard(self) -> list[ActorState]:
        """Start the workers that are due; return those with a result, after a short wait at most."""
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

        options = {"num_cpus": 1, "num_gpus": self.options.ray_gpus, "max_restarts": 0}
        # Plain arguments: an actor with object references in its constructor cannot restart (ray#53727).
        actor.handle = ray.remote(Worker).options(**options).remote(*place(), gpus=bool(self.options.ray_gpus))
        actor.starting = actor.handle.facts.remote()

    def welcome(self, actor: ActorState) -> None:
        """Register a started worker's platform, or replace the worker if its start failed."""
        import ray
        from ray.exceptions import RayError

        try:
            facts: Platform = ray.get(actor.starting)
        except RayError as error:
            self._failed_starts += 1
            # After the start, a node may leave the cluster; `expect_somebody` limits that wait.
            if not self.kinds and self._failed_starts >= TRIES * len(self.actors):
                self.lose(f"workers do not start: {in_a_line(error)}")
            self.replace(actor, error)
            return
        if facts.code != this_platform(torch.device("cpu")).code:
            self.close()
            raise ClusterError(
                f"node {facts.node} has other code of the harness than this process; install the same on all nodes",
                setting="backend ray",
            )
        if self.kinds and facts.kind not in self.kinds:
            # The run has reported its platforms at its start, so a late worker of another kind is not used.
            self.last_error = f"being of another kind than the workers at the start of the run ({facts.kind})"
            self._end(actor)
            self.actors.remove(actor)
            return
        actor.facts, self._failed_starts = facts, 0
        self.done[actor.number] = self.done.get(actor.number) or Throughput(f"worker {actor.number} on {facts.node}")

    def replace(self, actor: ActorState, error: Exception) -> None:
        """Replace a lost worker by a new one, with a delay if starts fail."""
        self.last_error = in_a_line(error)
        self._end(actor)
        due = time.monotonic() + (TICK if self._failed_starts else 0)
        self.actors[self.actors.index(actor)] = ActorState(actor.number, due)

    def expect_somebody(self, waiting: str) -> None:
        """End the run if it has had no worker for a while; `waiting` names the missing results."""
        if any(each.facts for each in self.actors):
            self._nobody_since = None
            return
        now = time.monotonic()
        self._nobody_since = self._nobody_since or now
        if now - self._nobody_since > PATIENCE:
            self.lose(
                f"no worker is left, and no new one has started for {PATIENCE:.0f} s; {waiting}. The last one was lost "
                f"by {self.last_error}"
            )

    def lose(self, why: str) -> NoReturn:
        """Raise `BackendLostError` now and for every later request."""
        self.lost = f"the cluster failed: {why}. A part of the results gives no verdict; repair the cluster, run again"
        raise BackendLostError(self.lost)

    def close(self) -> None:
        """End all workers."""
        for actor in self.actors:
            self._end(actor)
        self.actors = []

    def _end(self, actor: ActorState) -> None:
        import ray

        with suppress(Exception):  # The actor may have ended already.
            ray.kill(actor.handle)


def in_a_line(error: Exception) -> str:
    """Return one line with the kind of a Ray error, its first line, and the exception that it quotes, if any."""
    lines = [line.rstrip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()] or [""]
    raised = [line for line in lines[1:] if _RAISED.match(line)]
    return ": ".join((type(error).__name__, lines[0], *raised[-1:]))
