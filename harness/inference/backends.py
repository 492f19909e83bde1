"""The place of work: of models, of decoding and of whole gates, in this process or on a cluster."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import ClusterError, InputError, printable
from harness.inference.backend import BackendLostError
from harness.inference.devices import pick_device, usable_cores
from harness.networks.options import BackendOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from harness.data.decoder import Spread
    from harness.inference.cluster import Cluster

T = TypeVar("T")
R = TypeVar("R")

_ENVIRONMENT = ("PYTHONPATH", "XDG_CACHE_HOME", "FASHION_MNIST_DIR")
"""Variables with the places of code and data, which the nodes take from this process."""


def placed(options: BackendOptions, device: str) -> tuple[Cluster | None, str]:
    """Return the started cluster for the models, None without one, and the device of this process.

    Raises `InputError` for an unavailable device, for a device together with a cluster, and for a cluster that fails.
    """
    if not options.on_ray:
        return None, pick_device(device)
    if device not in {"auto", "cpu"}:
        raise InputError(f"device {device!r}: a cluster's workers get GPUs from ray_gpus; remove the device")
    return _started(options), "cpu"


def _started(options: BackendOptions) -> Cluster:
    from harness.inference.cluster import cluster_of

    cluster = cluster_of(options.part(BackendOptions))
    cluster.start()
    return cluster


def spread_of(options: BackendOptions) -> Spread | None:
    """Return the decoder of many pictures on the nodes of the models' cluster; None without a cluster."""
    return partial(_decoded, options) if options.on_ray else None


def _decoded(
    options: BackendOptions,
    call: Callable[[T], R],
    things: Iterable[T],
    *,
    here: Callable[[Iterable[T]], Generator[R, None, None]],
    what: str,
) -> Generator[R, None, None]:
    """Yield the result of `call` for each thing from the nodes, in their order; see `Spread`.

    This process makes the calls that fail on a node, for example without the files.
    """
    from harness.inference.cluster.nodes import put

    def say(why: str) -> None:
        print(printable(f"{what}: {why}; this process does that work"), file=sys.stderr)

    cluster, failed = _started(options), False
    try:
        sent = put(call, "the decoder")
    except InputError as error:
        say(str(error))
        yield from here(things)
        return
    for thing, node, result in cluster.run(sent, things, what=what):
        if not isinstance(result, Exception):
            yield result
            continue
        # If the thing itself is at fault, this process raises the error as without a cluster.
        yield from here([thing])
        if not failed:
            say(f"node {node} cannot ({type(result).__name__}: {result})")
        failed = True


@dataclass(frozen=True)
class Tasks:
    """Runs functions on a cluster, one per core; all nodes must share the project's folder."""

    options: BackendOptions

    @property
    def cores(self) -> int:
        """Join the cluster and return the number of parallel tasks: its cores, or fewer by the option workers."""
        return _started(self.options).workers

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return the function's result from a node of the cluster; its argument is the number of a core of its own.

        Prints `what`, the time and the node at the end. An `InputError` of the function is raised here. Raises
        `BackendLostError` if the task was lost with its node three times, or if no node is left.
        """
        from tqdm import tqdm

        from harness.inference.cluster.nodes import put

        start, environment = time.monotonic(), {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        call = put(partial(_on_a_core, function, Path.cwd(), environment), what)
        ((_, node, result),) = _started(self.options).run(call, [what], what="calibration")
        if isinstance(result, InputError):
            raise result
        if isinstance(result, Exception):
            raise BackendLostError(f"{what}: a worker of the cluster failed: {result}")
        tqdm.write(f"{what}: {time.monotonic() - start:.0f} s, on {node}", file=sys.stderr)
        return result  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """End the wait for all running tasks, since their results are no longer needed."""
        _started(self.options).lost = "the calibration was abandoned"


def _on_a_core(function: Callable[[int], T], folder: Path, environment: Mapping[str, str], _: str) -> T:
    """Run a function on a core of this node without another task, or on any if all have one, in the folder."""
    from filelock import FileLock, Timeout

    os.environ.update(environment)
    if Path.cwd() != folder:
        raise ClusterError(f"a node has no folder {folder}; put the project on storage that all nodes share")
    cores, locks = usable_cores(), f"{tempfile.gettempdir()}/stress-harness-{os.getuid()}-core"
    with ExitStack() as stack:
        for core in cores:
            try:
                stack.enter_context(FileLock(f"{locks}-{core}.lock", timeout=0))
            except Timeout:
                continue
            return function(core)
        return function(cores[os.getpid() % len(cores)])
