"""Whole tasks on the cores of a cluster, one per core; the tasks of a lost node run again on another."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.base.errors import ClusterError, InputError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.connection import connect
from harness.inference.devices import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.networks.options import BackendOptions

T = TypeVar("T")

_TRIES = 3
"""Attempts of a task before it counts as lost."""
_AGAIN = "finished results are kept, run the command again"
_abandoned = threading.Event()
"""Set when results are no longer needed."""
_PATIENCE = 45.0
"""Most seconds without a core in the cluster."""
_ENVIRONMENT = ("PYTHONPATH", "XDG_CACHE_HOME", "FASHION_MNIST_DIR")
"""Variables with the places of code and data, copied from this process."""


@dataclass(frozen=True)
class Tasks:
    """Runs functions on a cluster, one per core; all nodes must share the project's folder."""

    options: BackendOptions

    @property
    def cores(self) -> int:
        """Join the cluster and return the number of parallel tasks: its cores, or fewer by the option workers."""
        connect(self.options)
        import ray

        return max(1, min(int(ray.cluster_resources().get("CPU", 0)), self.options.ray_workers or sys.maxsize))

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return the function's result from a node of the cluster; its argument is the number of a core of its own.

        Prints `what`, the time and the node at the end. An `InputError` of the function is raised here. Raises
        `BackendLostError` if the task was lost with its node three times, or if no node is left.
        """
        import ray
        from ray import cloudpickle
        from ray.exceptions import RayError, RayTaskError
        from tqdm import tqdm

        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        start, seen = time.monotonic(), time.monotonic()
        remote = ray.remote(_run).options(num_cpus=1, max_retries=_TRIES - 1)
        task = remote.remote(cloudpickle.dumps(function), str(Path.cwd()), environment)
        while not ray.wait([task], timeout=1.0)[0]:
            if _abandoned.is_set():
                ray.cancel(task, force=True)
                raise BackendLostError(f"{what}: was abandoned")
            if ray.cluster_resources().get("CPU", 0) >= 1:
                seen = time.monotonic()
            elif time.monotonic() - seen > _PATIENCE:
                raise BackendLostError(f"{what}: no node of the cluster is left; {_AGAIN}")
        try:
            node, result = ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise BackendLostError(f"{what}: a worker of the cluster failed: {error}") from None
        except RayError as error:
            raise BackendLostError(
                f"{what}: was lost with its node {_TRIES} times ({type(error).__name__}); {_AGAIN}"
            ) from None
        tqdm.write(f"{what}: {time.monotonic() - start:.0f} s, on {node}", file=sys.stderr)
        return result  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """End all running tasks, since their results are no longer needed."""
        _abandoned.set()


def _run(function: bytes, folder: str, environment: dict[str, str]) -> tuple[str, Any]:
    """Run a function on this node, on a core of its own."""
    os.environ.update(environment)
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"node {platform.node()} of the cluster has no folder {folder} ({error.strerror}); put the project on "
            "storage that all nodes share"
        ) from None
    with _a_core() as core:
        return platform.node(), pickle.loads(function)(core)  # noqa: S301  Our own process sent it.


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


@contextmanager
def _a_core() -> Iterator[int]:
    """Yield the number of a core of this node without another task; if all have one, any core."""
    from filelock import FileLock, Timeout

    cores = usable_cores()
    with ExitStack() as stack:
        for core in cores:
            try:
                stack.enter_context(
                    FileLock(Path(tempfile.gettempdir()) / f"stress-harness-{_user()}-core-{core}.lock", timeout=0)
                )
            except Timeout:
                continue
            yield core
            return
        yield cores[os.getpid() % len(cores)]
