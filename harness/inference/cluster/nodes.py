"""Calls made on the nodes of a cluster, such as decoding pictures: in order, and again where one is lost."""

from __future__ import annotations

import pickle
import platform
import sys
import time
from collections import deque
from contextlib import suppress
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

    from harness.networks.running import RayOptions

T = TypeVar("T")
R = TypeVar("R")

_PATIENCE = 30.0
"""Seconds for which a cluster may be without a core."""
_LATE = 120.0
"""Seconds that the next call in order is waited for, after which it is made here: its worker may hang."""
_MOMENT = 3.0
"""Seconds after which a cluster without a free core is left alone."""
_AHEAD = 2
"""Calls that are begun ahead of what was taken, for each core."""


@dataclass(frozen=True)
class OnNodes:
    """Makes calls on the cores of a cluster's nodes, see `harness.data.parallel.Spread`.

    A worker or node that is lost costs what it was doing. A node on which a call fails, such as for want of the files,
    is asked for nothing more, and what it could not do is done here, as is what is late. Raises `BackendLostError` for
    a call that is lost three times, or half a minute without a node.
    """

    options: RayOptions

    def __call__(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Give what `call` returns for each thing, in their order."""
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
        try:
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
                        ray.cancel(lost)
                    waiting.clear()
                    yield from here(behind)
                    continue
                if answer.failed is None:
                    yield answer.result
                    continue
                # What is wrong with the thing itself is raised here, as it would be in one process.
                yield from here([thing])
                blind.add(answer.node)
                say(f"node {answer.name} cannot ({answer.failed})")
        finally:
            for _, task in waiting:
                with suppress(Exception):
                    ray.cancel(task)
        yield from here(left)


class _Saying:
    """Says once of all the calls, on standard error, why some are made by this process."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, False

    def __call__(self, why: str) -> None:
        if not self._said:
            line = f"{self._what}: {why}; what no worker does is done by this process"
            print(printable(line), file=sys.stderr)
        self._said = True


@dataclass(frozen=True)
class _Answer:
    """Result of a call on a node, or the reason why it `failed` there."""

    node: str
    name: str
    result: Any = None
    failed: str | None = None


@dataclass(frozen=True)
class _Sent:
    """A call in the object store, by its reference."""

    reference: Any

    def begun(self, thing: Any, blind: set[str]) -> Any:
        """Return a reference to the answer for a thing, which some node is to find that is not blind."""
        import ray

        options: dict[str, Any] = {"num_cpus": 1, "max_retries": TRIES - 1, "scheduling_strategy": "SPREAD"}
        if blind:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(blind))})"}
        code = this_platform(torch.device("cpu")).code
        # In a list, so that the worker gets the reference, and not each time the call.
        return ray.remote(call_on_node).options(**options).remote([self.reference], thing, code, *place())


def _has_free_core() -> bool:
    """Return whether a core of the cluster is free, after a moment if need be: one just started says so late."""
    import ray

    end = time.monotonic() + _MOMENT
    while (found := ray.available_resources().get("CPU", 0)) < 1 and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found >= 1)


def _some_see(blind: set[str]) -> bool:
    """Return whether there is a node with a core that is not blind."""
    import ray

    return any(
        node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["NodeID"] not in blind for node in ray.nodes()
    )


def _answer(task: Any, blind: set[str], what: str) -> _Answer | None:
    """Wait for an answer and return it, None where all nodes that are left are blind, or it is late.

    Raises `BackendLostError` where there is no node left, and where the call was lost too often.
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
            raise BackendLostError(f"{what}: no node of the cluster is left, and none has come for {_PATIENCE:.0f} s")
    try:
        answer: _Answer = ray.get(task)
    except RayError as error:
        raise BackendLostError(
            f"the cluster could not do its work: {what} failed {TRIES} times, the last time by {in_a_line(error)}; "
            "nothing is judged on a part, run again when it can"
        ) from None
    return answer


_held: dict[str, Any] = {}
"""The call that this worker made last, by its reference's name."""


def call_on_node(call: list[Any], thing: Any, code: str, path: list[str], folder: str) -> _Answer:
    """Make a call, which is referred to, on a worker, as a process with this `code` of the harness would."""
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
    except Exception as error:  # Told where the same is done, which then fails likewise, or does not.
        return _Answer(*node, failed=f"{type(error).__name__}: {error}")
