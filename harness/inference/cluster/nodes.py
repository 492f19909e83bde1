"""Calls on the nodes of a cluster, as Ray tasks: Ray schedules them, and repeats those of a lost worker or node."""

from __future__ import annotations

import math
import os
import pickle
import platform
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import torch

from harness.base.errors import ClusterError, InputError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.connection import connect
from harness.inference.cluster.serialization import packed
from harness.inference.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.networks.running import RayOptions

T = TypeVar("T")

TRIES = 3
"""Attempts of Ray for a call that is lost with its worker or node."""
STARTING, PATIENCE = 180.0, 30.0
"""Most seconds until the nodes answer at the start, and later without any node."""
_AHEAD = 2
"""Calls per core that are begun, so no core waits for the driver; at most as many times this await the consumer."""
_HELD = 8
"""Objects of the store that a worker keeps: the models of the roles, and the latest calls."""


class UnlikeError(InputError):
    """A node has other code or another platform than those at the start of the run."""


@dataclass(frozen=True)
class Answer:
    """The result of a call on a node, or the error with which it `failed`."""

    node: str
    name: str
    result: Any = None
    failed: Exception | None = None


class Nodes:
    """The nodes of one cluster, and calls on their cores."""

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self.kinds: Counter[str] = Counter()
        """Kinds of the nodes' platforms at the start, with the number of workers of each; they determine the bits."""
        self.bfloat16 = True
        """True if bfloat16 is fast on all nodes."""
        self.unlike: set[str] = set()
        """Nodes that have joined since the start, with other code or another platform."""
        self.lost = ""
        """The reason why every further call fails; "" while the cluster works."""

    @property
    def device(self) -> torch.device:
        """Return the kind of device that models run on."""
        return torch.device("cuda" if self.options.gpus else "cpu")

    @property
    def workers(self) -> int:
        """Return the number of parallel calls with a model."""
        return min(self.kinds.total(), self.options.workers or sys.maxsize)

    def start(self) -> None:
        """Join the cluster and ask its nodes for their platforms, unless they have answered.

        Raises `InputError` for a cluster without room for a worker, and for nodes with other code than this process.
        """
        if self.kinds:
            return
        connect(self.options)
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked, reason = {}, f"none has answered within {STARTING:.0f} s"
        for node in ray.nodes():
            if node["Alive"] and (room := self._room(node["Resources"])):
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                options = {"num_cpus": 0, "num_gpus": self.options.gpus, "scheduling_strategy": there}
                asked[_begun(None, self.device, **options)] = room
        if not asked:
            needs = "one core" + (f" and {self.options.gpus:g} GPUs" if self.options.gpus else "")
            raise ClusterError(
                f"no node of the cluster has room for a worker, which needs {needs}", setting="backend ray"
            )
        for task in ray.wait(list(asked), num_returns=len(asked), timeout=STARTING)[0]:
            try:
                answer: Answer = ray.get(task)
            except RayError as error:
                reason = _in_a_line(error)
                continue
            if answer.failed:
                raise ClusterError(f"node {answer.name}: {answer.failed}", setting="backend ray")
            self.kinds[answer.result.kind] += asked[task]
            self.bfloat16 &= answer.result.bfloat16
        if not self.kinds:
            self.lose(f"no node can work: {reason}")

    def _room(self, has: Mapping[str, float]) -> int:
        """Return the number of workers that a node with these resources has room for."""
        gpus = self.options.gpus
        return int(min(has.get("CPU", 0), has.get("GPU", 0) / gpus if gpus else math.inf))

    def run(
        self, call: Any, things: Iterable[T], *, what: str, without: set[str] | None = None, gpus: float = 0.0
    ) -> Iterator[tuple[T, Answer | None]]:
        """Yield each thing with the answer of `call`, a reference to the callable, in their order.

        No call begins on the nodes `without`, a set that may grow. The answer is None if only these are left. Raises
        `BackendLostError` if a call is lost three times, and after half a minute without a node.
        """
        import ray
        from ray.exceptions import RayError

        left, begun, open_ = iter(things), deque[tuple[T, Any]](), set[Any]()
        without = self.unlike if without is None else without
        most = self.options.workers or _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0)))

        def begin(thing: T) -> tuple[T, Any]:
            options = {"num_cpus": 1, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
            if without:
                options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(without))})"}
            open_.add(task := _begun(call, thing, **options))
            return thing, task

        seen = time.monotonic()
        # After an error, the calls that have begun run to their end. If Ray gets an answer while it cancels a call, it
        # may end this process with status 1.
        while True:
            while len(open_) < most and len(begun) < _AHEAD * most and (thing := next(left, None)) is not None:
                begun.append(begin(thing))
            if not begun:
                return
            if ready := ray.wait(list(open_), timeout=1.0)[0]:
                open_.difference_update(ready)
                seen = time.monotonic()
            elif there := {node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}:
                seen = time.monotonic()
                if there <= without:  # Calls that exclude these nodes would wait for others.
                    yield from ((thing, None) for thing in chain((thing for thing, _ in begun), left))
                    return
            elif time.monotonic() - seen > PATIENCE:
                self.lose(f"{what}: {begun[0][0]}: no node is left, and no new one has joined for {PATIENCE:.0f} s")
            if self.lost:
                raise BackendLostError(self.lost)
            while begun and begun[0][1] not in open_:
                thing, task = begun.popleft()
                try:
                    answer: Answer = ray.get(task)
                except RayError as error:  # The worker returns errors of the call, so this one is Ray's.
                    self.lose(f"{what}: {thing} failed {TRIES} times, the last time by {_in_a_line(error)}")
                if isinstance(answer.failed, UnlikeError):
                    without.add(answer.node)
                    begun.appendleft(begin(thing))
                else:
                    yield thing, answer

    def lose(self, why: str) -> NoReturn:
        """Raise `BackendLostError` now and for every later call."""
        self.lost = f"the cluster failed: {why}. A part of the results gives no verdict; repair the cluster, run again"
        raise BackendLostError(self.lost)


def put(thing: Any, what: str) -> Any:
    """Return a reference to an object in the store, for workers; raises `InputError` if it cannot be pickled."""
    import ray

    return ray.put(np.frombuffer(packed(thing, what), dtype=np.uint8))


_held: dict[str, Any] = {}
"""The latest objects of the store that this worker has used, by the names of their references."""


def held(reference: Any) -> Any:
    """Return an object of the store; a worker unpickles it once."""
    import ray

    name = reference.hex()
    # The latest is the last. A kept reference would keep its object in the store.
    _held[name] = _held.pop(name) if name in _held else pickle.loads(ray.get(reference))  # noqa: S301  Our own bytes.
    while len(_held) > _HELD:
        del _held[next(iter(_held))]
    return _held[name]


def call_on_node(call: list[Any], thing: Any, code: str, path: list[str], folder: str) -> Answer:
    """Make the call of a reference on a worker; for the reference None, return its platform on the device `thing`."""
    import ray

    node = ray.get_runtime_context().get_node_id(), platform.node()
    try:
        if this_platform(torch.device("cpu")).code != code:
            raise UnlikeError("it has other code of the harness than this process; install the same on all nodes")
        sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
        with suppress(OSError):  # A node need not have the folder.
            os.chdir(folder)
        result = this_platform(thing) if call[0] is None else held(call[0])(thing)
    except ModuleNotFoundError as error:
        said = f"a worker of the cluster has no module {error.name!r}; install it on every node"
        return Answer(*node, failed=ClusterError(said))
    except Exception as error:  # Code of the user's may raise any exception.
        kept = (
            error
            if isinstance(error, InputError | FileNotFoundError | torch.OutOfMemoryError)
            else RuntimeError(str(error))
        )
        return Answer(*node, failed=kept)
    return Answer(*node, result)


@cache
def _task() -> Any:
    import ray

    return ray.remote(call_on_node)


def _begun(call: Any, thing: Any, **options: Any) -> Any:
    """Return a reference to the answer for a thing, with these options of Ray."""
    # In a list, Ray passes the reference itself, and the worker reads the call only once. An entry of the path may be
    # "".
    path = [os.path.abspath(each) for each in sys.path]  # noqa: PTH100
    code = this_platform(torch.device("cpu")).code
    return _task().options(max_retries=TRIES - 1, **options).remote([call], thing, code, path, str(Path.cwd()))


def _in_a_line(error: Exception) -> str:
    """Return one line with the kind of a Ray error and its last line, which quotes the exception, if any."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"
