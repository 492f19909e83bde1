"""Calls on the nodes of a Ray cluster, as tasks.

Ray schedules them, and repeats those of a lost worker or node.
"""

from __future__ import annotations

import math
import os
import pickle
import platform
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
import torch

from harness.base.errors import ClusterError, InputError, PackageError
from harness.features.cluster.serialization import packed
from harness.inference.devices import available_cores
from harness.inference.engine import BackendLostError
from harness.inference.platforms import this_platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.networks.options import BackendOptions

T = TypeVar("T")

TRIES = 3
"""Attempts of Ray for a call that is lost with its worker or node."""
STARTING, PATIENCE = 180.0, 30.0
"""Most seconds until the nodes answer at the start, and later without any node."""
_AHEAD = 2
"""Calls per core that are begun, so no core waits for the driver.

At most as many times this await the consumer.
"""
_HELD = 8
"""Objects of the store that a worker keeps: the models of the roles, and the latest calls."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray sends no statistics.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default, which avoids a warning.
}
_NICENESS = "RAY_worker_niceness"
"""By default, Ray adds 15 to the niceness of its workers: beside a busy process they get a
thirtieth of a core.
"""


def connect(options: BackendOptions) -> None:
    """Join the cluster that the options name, or start one on this machine.

    A process stays in its first cluster.

    Raises `InputError` if Ray is not installed or finds no cluster. Ray's logs are off unless the
    options want them.
    """
    logs = options.ray_logs
    if not logs:
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
    try:
        import ray
    except ImportError as error:
        raise PackageError(
            f"needs Ray, which is not installed ({error}); pip install 'stress-harness[ray]'",
            setting="backend ray",
        ) from None
    if ray.is_initialized():
        return
    address = options.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ClusterError(
            "is an address of Ray clients; name the cluster itself, such as 10.0.0.1:6379, and "
            "run on one of its nodes",
            setting=f"ray_address {address}",
        )
    how: dict[str, Any] = {"log_to_driver": logs, "configure_logging": not logs}
    how["logging_level"] = "info" if logs else "critical"
    if address == "local":
        os.environ.setdefault(
            _NICENESS, "0"
        )  # Workers have the priority of this process, as without a cluster.
        how |= {"num_cpus": available_cores(), "include_dashboard": False}
    try:
        ray.init(address, **how)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise ClusterError(
            f"no cluster can be joined there ({said}). Start one with `ray start --head`, or "
            "remove the address and RAY_ADDRESS for a new cluster for the run",
            setting=f"ray_address {address}",
        ) from None


class Nodes:
    """The nodes of one cluster, and calls on their cores."""

    def __init__(self, options: BackendOptions) -> None:
        self.options = options
        self.device = torch.device("cuda" if options.ray_gpus else "cpu")
        self.kinds: Counter[str] = Counter()
        """Kinds of the nodes' platforms at the start, with the number of workers of each.

        They determine the bits.
        """
        self.bfloat16 = True
        """True if bfloat16 is fast on all nodes."""
        self.lost = ""
        """The reason why every further call fails; "" while the cluster works."""

    @property
    def workers(self) -> int:
        """Return the number of parallel calls with a model."""
        return min(self.kinds.total(), self.options.ray_workers or sys.maxsize)

    def start(self) -> None:
        """Join the cluster and ask its nodes for their platforms, unless they have answered.

        Raises `InputError` for a cluster without room for a worker, and for nodes with other code
        than this process.
        """
        if self.kinds:
            return
        connect(self.options)
        import ray
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked, reason, gpus = (
            {},
            f"none has answered within {STARTING:.0f} s",
            self.options.ray_gpus,
        )
        call = put(this_platform, "a function")
        for node in ray.nodes():
            cores, there = (
                node["Resources"].get("CPU", 0),
                NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            room = int(min(cores, node["Resources"].get("GPU", 0) / gpus if gpus else math.inf))
            if node["Alive"] and room:
                asked[
                    _begun(call, self.device, num_cpus=0, num_gpus=gpus, scheduling_strategy=there)
                ] = room
        if not asked:
            needs = "one core" + (f" and {gpus:g} GPUs" if gpus else "")
            raise ClusterError(
                f"no node has room for a worker, which needs {needs}", setting="backend ray"
            )
        for task in ray.wait(list(asked), num_returns=len(asked), timeout=STARTING)[0]:
            try:
                _, found = ray.get(task)
            except RayError as error:
                reason = (
                    "the last one was lost as it was asked at the start, or runs no worker "
                    f"({_in_a_line(error)})"
                )
                continue
            if isinstance(found, Exception):
                raise found
            self.kinds[found.kind] += asked[task]
            self.bfloat16 &= found.bfloat16
        if not self.kinds:
            self.lose(f"no node can work: {reason}")

    def run(
        self, call: Any, things: Iterable[T], *, what: str, gpus: float = 0.0
    ) -> Iterator[tuple[T, str, Any]]:
        """Yield each thing, its node, and the result of `call`, in their order.

        `call` is a reference to the callable. The result may be an exception of the call. Raises
        `BackendLostError` if a call is lost three times, and after half a minute without a node.
        """
        import ray
        from ray.exceptions import RayError

        left, begun, open_, seen = (
            iter(things),
            deque[tuple[T, Any]](),
            set[Any](),
            time.monotonic(),
        )
        most = self.options.ray_workers or _AHEAD * max(
            1, int(ray.cluster_resources().get("CPU", 0))
        )
        # After an error, the calls that have begun run to their end. If Ray gets an answer while it
        # cancels a call, it may end this process with status 1.
        while True:
            if self.lost:
                raise BackendLostError(self.lost)
            while (
                len(open_) < most
                and len(begun) < _AHEAD * most
                and (thing := next(left, None)) is not None
            ):
                task = _begun(call, thing, num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")
                begun.append((thing, task))
                open_.add(task)
            if not begun:
                return
            ready, _ = ray.wait(list(open_), timeout=1.0)
            open_.difference_update(ready)
            if ready or any(node["Alive"] and node["Resources"].get("CPU") for node in ray.nodes()):
                seen = time.monotonic()
            if time.monotonic() - seen > PATIENCE:
                self.lose(
                    f"{what}: {begun[0][0]}: no node is left, and no new one has joined for "
                    f"{PATIENCE:.0f} s"
                )
            while begun and begun[0][1] not in open_:
                thing, task = begun.popleft()
                try:
                    node, result = ray.get(task)
                except (
                    RayError
                ) as error:  # The worker returns errors of the call, so this one is Ray's.
                    self.lose(
                        f"{what}: {thing} failed {TRIES} times, the last time by "
                        f"{_in_a_line(error)}"
                    )
                yield thing, node, result

    def lose(self, why: str) -> NoReturn:
        """Raise `BackendLostError` now and for every later call."""
        self.lost = (
            f"the cluster failed: {why}. A part of the results gives no verdict; repair the "
            "cluster, run again"
        )
        raise BackendLostError(self.lost)


def put(thing: Any, what: str) -> Any:
    """Return a reference to an object in the store, for workers.

    Raises:
        InputError: If it cannot be pickled.
    """
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


def call_on_node(
    call: list[Any], thing: Any, code: str, path: list[str], folder: str
) -> tuple[str, Any]:
    """Make the call of a reference on a worker with the same `code` of the harness.

    Returns its node and the result.

    An exception is a result. The call runs in the folder, if the node has it.
    """
    node = platform.node()
    sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
    with suppress(OSError):
        os.chdir(folder)
    try:
        if this_platform(torch.device("cpu")).code != code:
            raise ClusterError(
                f"node {node} has other code of the harness than this process; install the same "
                "on all"
            )
        return node, held(call[0])(thing)
    except ModuleNotFoundError as error:
        return node, ClusterError(
            f"node {node} has no module {error.name!r}; install it on every node"
        )
    except (InputError, FileNotFoundError, torch.OutOfMemoryError) as error:
        return node, error
    except (
        Exception
    ) as error:  # Code of the user's may raise any exception, perhaps one that cannot be pickled.
        return node, RuntimeError(str(error))


@cache
def _task() -> Any:
    import ray

    return ray.remote(call_on_node)


def _begun(call: Any, thing: Any, **options: Any) -> Any:
    """Return a reference to the answer for a thing, with these options of Ray."""
    path = [os.path.abspath(each) for each in sys.path]  # noqa: PTH100  An entry may be "".
    code = this_platform(torch.device("cpu")).code
    # In a list, Ray passes the reference itself, and the worker reads the call only once.
    return (
        _task()
        .options(max_retries=TRIES - 1, **options)
        .remote([call], thing, code, path, str(Path.cwd()))
    )


def _in_a_line(error: Exception) -> str:
    """Return one line with the kind of a Ray error and its last line.

    The last line quotes the exception, if any.
    """
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"
