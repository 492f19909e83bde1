"""Whole pieces of work on the cores of a cluster, one on each: what a node that is lost had is done again elsewhere."""

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

from harness.base.errors import InputError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.connection import connect
from harness.inference.devices import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.networks.running import RayOptions

T = TypeVar("T")

_TRIES = 3
"""Precision often a piece of work is begun before it counts as lost."""
_AGAIN = "what was finished is kept, run the command again"
_abandoned = threading.Event()
"""Set when nobody waits for results any more."""
_PATIENCE = 45.0
"""Seconds for which a cluster may be without a core."""
_ENVIRONMENT = ("PYTHONPATH", "XDG_CACHE_HOME", "FASHION_MNIST_DIR")
"""Variables by which code and data are found, as this process has them."""


@dataclass(frozen=True)
class Tasks:
    """Runs functions on a cluster, as many side by side as it has cores, where the project's folder is shared."""

    options: RayOptions

    @property
    def cores(self) -> int:
        """Return how many run side by side, as many as the cluster has cores, or fewer if asked for; joins it."""
        connect(self.options)
        import ray

        return max(1, min(int(ray.cluster_resources().get("CPU", 0)), self.options.workers or sys.maxsize))

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return what the function gives on a node of the cluster, called with the number of a core that is its own.

        Says on the terminal when it is done, as `what`, and where. What it raises is raised here, if it is an
        `InputError`; raises `BackendLostError` when it was lost with its node three times, or no node is left.
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
                raise BackendLostError(
                    f"{what}: no node of the cluster is left; what was finished is kept, run it again"
                )
        try:
            node, result = ray.get(task)
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise BackendLostError(f"{what}: a worker of the cluster failed: {error}") from None
        except RayError as error:
            raise BackendLostError(
                f"{what}: was lost {_TRIES} times with what had it ({type(error).__name__}); {_AGAIN}"
            ) from None
        tqdm.write(f"{what}: {time.monotonic() - start:.0f} s, on {node}", file=sys.stderr)
        return result  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """End all that runs, since nobody waits for it."""
        _abandoned.set()


def _run(function: bytes, folder: str, environment: dict[str, str]) -> tuple[str, Any]:
    """Run a function on this node, on a core of its own."""
    os.environ.update(environment)
    try:
        os.chdir(folder)
    except OSError as error:
        raise InputError(
            f"node {platform.node()} of the cluster has no folder {folder} ({error.strerror}); measure where the "
            "project is on storage that all nodes share"
        ) from None
    with _a_core() as core:
        return platform.node(), pickle.loads(function)(core)  # noqa: S301  Our own process sent it.


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


@contextmanager
def _a_core() -> Iterator[int]:
    """Yield the number of a core of this node that no other piece of work has, as long as there is one."""
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
