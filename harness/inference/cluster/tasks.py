"""Whole gates of a calibration on the cores of a cluster."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.base.errors import ClusterError, InputError
from harness.inference.backend import BackendLostError
from harness.inference.cluster.backend import Cluster, cluster_of
from harness.inference.cluster.nodes import put
from harness.inference.devices import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.networks.running import RayOptions

T = TypeVar("T")

_ENVIRONMENT = ("PYTHONPATH", "XDG_CACHE_HOME", "FASHION_MNIST_DIR")
"""Variables with the places of code and data, copied from this process."""


@dataclass(frozen=True)
class Tasks:
    """Runs functions on a cluster, one per core; all nodes must share the project's folder."""

    options: RayOptions

    @property
    def _cluster(self) -> Cluster:
        return cluster_of(self.options)

    @property
    def cores(self) -> int:
        """Join the cluster and return the number of parallel tasks: its cores, or fewer by the option workers."""
        self._cluster.start()
        return self._cluster.workers

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return the function's result from a node of the cluster; its argument is the number of a core of its own.

        Prints `what`, the time and the node at the end. An `InputError` of the function is raised here. Raises
        `BackendLostError` if the task was lost with its node three times, or if no node is left.
        """
        from tqdm import tqdm

        start, environment = time.monotonic(), {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        call = put(partial(_on_a_core, function, Path.cwd(), environment), what)
        ((_, answer),) = self._cluster.run(call, [what], what="calibration")
        assert answer is not None
        if isinstance(answer.failed, InputError):
            raise answer.failed
        if answer.failed is not None:
            raise BackendLostError(f"{what}: a worker of the cluster failed: {answer.failed}")
        tqdm.write(f"{what}: {time.monotonic() - start:.0f} s, on {answer.name}", file=sys.stderr)
        return answer.result  # type: ignore[no-any-return]

    def abandon(self) -> None:
        """End the wait for all running tasks, since their results are no longer needed."""
        self._cluster.lost = "the calibration was abandoned"


def _on_a_core(function: Callable[[int], T], folder: Path, environment: Mapping[str, str], _: str) -> T:
    """Run a function on a core of this node without another task, or on any if all have one, in the folder."""
    os.environ.update(environment)
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"a node of the cluster has no folder {folder} ({error.strerror}); put the project on storage that all "
            "nodes share"
        ) from None
    with _a_core() as core:
        return function(core)


@contextmanager
def _a_core() -> Iterator[int]:
    from filelock import FileLock, Timeout

    cores, user = usable_cores(), os.getuid() if hasattr(os, "getuid") else 0
    with ExitStack() as stack:
        for core in cores:
            try:
                lock = Path(tempfile.gettempdir()) / f"stress-harness-{user}-core-{core}.lock"
                stack.enter_context(FileLock(lock, timeout=0))
            except Timeout:
                continue
            yield core
            return
        yield cores[os.getpid() % len(cores)]
