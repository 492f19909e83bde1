"""Calls on the nodes of a cluster, such as decoding pictures: results in order, lost calls repeated."""

from __future__ import annotations

import pickle
import platform
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from harness.base.errors import InputError, printable
from harness.inference.backend import BackendLostError
from harness.inference.cluster.actors import TRIES, in_a_line
from harness.inference.cluster.connection import connect
from harness.inference.cluster.serialization import packed_call
from harness.inference.cluster.worker import enter, place
from harness.inference.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from harness.networks.options import BackendOptions

T = TypeVar("T")
R = TypeVar("R")

_PATIENCE = 30.0
"""Most seconds without a core in the cluster."""
_LATE = 120.0
"""Most seconds of waiting for the next call in order; this process then makes it, as its worker may hang."""
_MOMENT = 3.0
"""Seconds of waiting for a free core before this process does the work."""
_AHEAD = 2
"""Calls for each core that start ahead of the consumer."""


@dataclass(frozen=True)
class OnNodes:
    """Makes calls on the cores of a cluster's nodes, see `harness.data.parallel.Spread`.

    Only the calls of a lost worker or node are repeated. If a call fails on a node, for example without the files, the
    node gets no more calls. This process makes failed and late calls itself. Raises `BackendLostError` if a call is
    lost three times, or after half a minute without a node.
    """

    options: BackendOptions

    def __call__(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Yield the result of `call` for each thing, in their order."""
        connect(self.options)
        import ray

        say = _Saying(what)
        try:
            sent = _Sent(ray.put(np.frombuffer(packed_call(call), dtype=np.uint8)))
        except InputError as error:
            say(str(error))
            yield from here(things)
            return
        if not _has_free_core():
            say("no core of the cluster is free")
            yield from here(things)
            return
        blind: set[str] = set()
        left, waiting = iter(things), deque[tuple[T, Any]]()
        ahead = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 0)))
        # After an error, the calls that have begun run to their end. If Ray gets an answer while it cancels a call, it
        # may end this process with status 1.
        while True:
            while len(waiting) < ahead and (not blind or _some_see(blind)):
                if (thing := next(left, None)) is None:
                    break
                waiting.append((thing, sent.begun(thing, blind)))
            if not waiting:
                break
            thing, task = waiting.popleft()
            answer = _answer(task, blind, f"{what}: {thing}")
            if answer is None:
                behind = [thing, *(each for each, _ in waiting)]
                for lost in (task, *(each for _, each in waiting)):
                    ray.cancel(lost)  # It would keep a core.
                waiting.clear()
                yield from here(behind)
                continue
            if answer.failed is None:
                yield answer.result
                continue
            # If the thing itself is at fault, this process raises the error as without a cluster.
            yield from here([thing])
            blind.add(answer.node)
            say(f"node {answer.name} cannot ({answer.failed})")
        yield from here(left)


class _Saying:
    """Prints once, on standard error, why this process makes some of the calls."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, False

    def __call__(self, why: str) -> None:
        if not self._said:
            line = f"{self._what}: {why}; this process does the remaining work"
            print(printable(line), file=sys.stderr)
        self._said = True


@dataclass(frozen=True)
class _Answer:
    """Result of a call on a node, or the reason why it `failed`."""

    node: str
    name: str
    result: Any = None
    failed: str | None = None


@dataclass(frozen=True)
class _Sent:
    """A call in the object store."""

    reference: Any

    def begun(self, thing: Any, blind: set[str]) -> Any:
        """Return a reference to the answer for a thing, computed on a node that is not `blind`."""
        import ray

        options: dict[str, Any] = {"num_cpus": 1, "max_retries": TRIES - 1, "scheduling_strategy": "SPREAD"}
        if blind:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(blind))})"}
        code = this_platform(torch.device("cpu")).code
        # In a list, Ray passes the reference itself, and the worker reads the call only once.
        return ray.remote(call_on_node).options(**options).remote([self.reference], thing, code, *place())


def _has_free_core() -> bool:
    """Return whether a core of the cluster is free; a new cluster may report it only after a moment."""
    import ray

    end = time.monotonic() + _MOMENT
    while (found := ray.available_resources().get("CPU", 0)) < 1 and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found >= 1)


def _some_see(blind: set[str]) -> bool:
    """Return whether some node with a core is not `blind`."""
    import ray

    return any(
        node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["NodeID"] not in blind for node in ray.nodes()
    )


def _answer(task: Any, blind: set[str], what: str) -> _Answer | None:
    """Wait for an answer and return it; None if all remaining nodes are blind, or if it is late.

    Raises `BackendLostError` if no node is left, and if the call was lost too often.
    """
    import ray
    from ray.exceptions import RayError

    began = seen = time.monotonic()
    while not ray.wait([task], timeout=1.0)[0]:
        if time.monotonic() - began > _LATE:
            return None
        if _some_see(blind):
            seen = time.monotonic()
        elif blind and _some_see(set()):
            return None
        elif time.monotonic() - seen > _PATIENCE:
            raise BackendLostError(
                f"{what}: no node of the cluster is left, and no new one has joined for {_PATIENCE:.0f} s"
            )
    try:
        answer: _Answer = ray.get(task)
    except RayError as error:
        raise BackendLostError(
            f"the cluster failed: {what} failed {TRIES} times, the last time by {in_a_line(error)}. A part of the "
            "results gives no verdict; repair the cluster, run again"
        ) from None
    return answer


_held: dict[str, Any] = {}
"""The latest call of this worker, by the name of its reference."""


def call_on_node(call: list[Any], thing: Any, code: str, path: list[str], folder: str) -> _Answer:
    """Make the call of a reference on a worker, if the worker has the same `code` of the harness."""
    import ray

    node = ray.get_runtime_context().get_node_id(), platform.node()
    try:
        if this_platform(torch.device("cpu")).code != code:
            return _Answer(*node, failed="it has other code of the harness; install the same on all nodes")
        if (name := call[0].hex()) not in _held:
            enter(path, folder)
            _held.clear()
            _held[name] = pickle.loads(ray.get(call[0]))  # noqa: S301  Our own process put it there.
        return _Answer(*node, _held[name](thing))
    except Exception as error:  # The driver repeats the call, and raises the error if it fails there too.
        return _Answer(*node, failed=f"{type(error).__name__}: {error}")
