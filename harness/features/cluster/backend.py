"""Work on a cluster: of models, of decoding and of whole gates.

This process decides what to compute.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np
import torch

from harness.base.errors import ClusterError, InputError, printable
from harness.features.cluster.nodes import Nodes, held, put
from harness.features.cluster.serialization import Pages
from harness.inference.devices import usable_cores
from harness.inference.engine import BackendLostError, Engine
from harness.inference.platforms import this_platform
from harness.inference.screening import Screen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping

    from torch import nn

    from harness.inference.engine import BatchTask, Perturbed
    from harness.networks.options import BackendOptions

T = TypeVar("T")
R = TypeVar("R")

_MOST_BYTES, _MOST_BATCHES = 32 << 20, 64
"""Limits of a range, so a lost worker costs little."""
_PARTS = 4
"""A range is one part in this many of a worker's share of the rest, so all workers finish at nearly
the same time.
"""
_ENVIRONMENT = ("PYTHONPATH", "XDG_CACHE_HOME", "FASHION_MNIST_DIR")
"""Variables with the places of code and data, which the nodes take from this process."""


class RayCluster(Nodes):
    """A cluster, which makes backends and runs other functions on its cores.

    The backends run models on its workers.
    """

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self.pages = Pages()

    def __reduce__(self) -> tuple[Any, ...]:
        return cluster_of, (self.options,)

    def __call__(
        self,
        model: nn.Module,
        *,
        device: torch.device,  # noqa: ARG002
        workers: int,  # noqa: ARG002
        screen: bool,
    ) -> Engine:
        """Return a backend for the model.

        The cluster determines the device and the number of workers.
        """
        self.start()
        return _OnCluster(model, self, screen=screen)

    def decoded(
        self,
        call: Callable[[T], R],
        things: Iterable[T],
        *,
        here: Callable[[Iterable[T]], Generator[R, None, None]],
        what: str,
    ) -> Generator[R, None, None]:
        """Yield the result of `call` for each thing from the nodes, in their order; see `Spread`.

        This process makes the calls that fail on a node, for example without the files.
        """
        said, failed = "{}: {}; this process does that work", False
        self.start()
        try:
            sent = put(call, "the decoder")
        except InputError as error:
            print(printable(said.format(what, error)), file=sys.stderr)
            yield from here(things)
            return
        for thing, node, result in self.run(sent, things, what=what):
            if not isinstance(result, Exception):
                yield result
                continue
            # If the thing itself is at fault, this process raises the error as without a cluster.
            yield from here([thing])
            if not failed:
                why = f"node {node} cannot ({type(result).__name__}: {result})"
                print(printable(said.format(what, why)), file=sys.stderr)
            failed = True

    @property
    def cores(self) -> list[int]:
        """Join the cluster and return a number for each parallel task.

        Its cores, or fewer by the option workers.
        """
        self.start()
        return list(range(self.workers))

    def result(self, what: str, function: Callable[[int], T]) -> T:
        """Return the function's result from a node.

        Its argument is the number of a core of its own.

        All nodes must share the project's folder. Prints `what`, the time and the node at the end.
        An `InputError` of the function is raised here. Raises `BackendLostError` if the task was
        lost with its node three times, or if no node is left.
        """
        from tqdm import tqdm

        start, environment = (
            time.monotonic(),
            {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
        call = put(partial(_on_a_core, function, Path.cwd(), environment), what)
        ((_, node, result),) = self.run(call, [what], what="calibration")
        if isinstance(result, InputError):
            raise result
        if isinstance(result, Exception):
            raise BackendLostError(f"{what}: a worker of the cluster failed: {result}")
        tqdm.write(f"{what}: {time.monotonic() - start:.0f} s, on {node}", file=sys.stderr)
        return cast("T", result)


@cache
def cluster_of(options: BackendOptions) -> RayCluster:
    """Return the cluster of these options, one for this process."""
    return RayCluster(options)


def _on_a_core(
    function: Callable[[int], T], folder: Path, environment: Mapping[str, str], _: str
) -> T:
    """Run a function in the folder, on a core of this node without another task.

    If all cores have one, it runs on any.
    """
    from filelock import FileLock, Timeout

    os.environ.update(environment)
    if Path.cwd() != folder:
        raise ClusterError(
            f"a node has no folder {folder}; put the project on storage that all nodes share"
        )
    cores, locks = usable_cores(), f"{tempfile.gettempdir()}/stress-harness-{os.getuid()}-core"
    with ExitStack() as stack:
        for core in cores:
            try:
                stack.enter_context(FileLock(f"{locks}-{core}.lock", timeout=0))
            except Timeout:
                continue
            return function(core)
        return function(cores[os.getpid() % len(cores)])


def ranges(count: int, *, size: int, workers: int, most: int) -> Iterator[tuple[int, int]]:
    """Divide `count` inputs into ranges of whole batches of `size`, at most `most` batches each.

    The last are small.

    The inputs of a batch depend only on `size`, and so do the bits.
    """
    start = 0
    while start < count:
        batches = -(-(count - start) // size) // (workers * _PARTS)
        stop = min(count, start + size * min(most, max(1, batches)))
        yield start, stop
        start = stop


class _Range(NamedTuple):
    """Inputs of whole batches, with references to the model and to the pixels.

    Pixels in a file have no reference. Ray would never release what references inside pickled bytes
    refer to.
    """

    start: int
    stop: int
    model: Any
    pixels: Any

    def __str__(self) -> str:
        return f"images {self.start} to {self.stop - 1}"


def _rows(
    task: BatchTask, inputs: Perturbed, size: int, kinds: frozenset[str], part: _Range
) -> np.ndarray:
    """Return the task's rows of a range in a worker.

    `kinds` are the platforms that the run has reported.
    """
    if (kind := this_platform(inputs.device).kind) not in kinds:
        raise ClusterError(
            f"a node has joined that is {kind}, unlike the nodes at the start of the run; remove it"
        )
    inputs = inputs.only(np.arange(part.start, part.stop))
    if part.pixels is not None:
        inputs = replace(inputs, pixels=part.pixels)
    return task(
        held(part.model).to(inputs.device, memory_format=torch.channels_last), inputs, size, 1
    )


class _OnCluster(Engine):
    """The engine of a process, with the computation on workers.

    Screening, repetition and batch sizes are the same.

    Ranges are whole batches, so the bits are the same too.
    """

    def __init__(self, model: nn.Module, cluster: RayCluster, *, screen: bool) -> None:
        super().__init__(model, device=cluster.device, workers=1, screen=False)
        self.screen = Screen(model) if screen and cluster.bfloat16 else None
        self._cluster = cluster
        self._references: dict[nn.Module, Any] = {}

    @property
    def decides(self) -> Hashable:
        # With other platforms than this one's, these too.
        here, kinds = super().decides, sorted(self._cluster.kinds)
        there = self.device.type == "cpu" or torch.cuda.is_available()
        return here if there and kinds == [this_platform(self.device).kind] else (here, *kinds)

    def over_batches(
        self, task: BatchTask, model: nn.Module, inputs: Perturbed, *, size: int
    ) -> np.ndarray:
        cluster, pages, pixels, what = (
            self._cluster,
            self._cluster.pages,
            inputs.pixels,
            str(inputs),
        )
        if model not in self._references:
            self._references[model] = put(model, "the model")
        in_file = pages.in_file(pixels)
        there = replace(
            inputs, device=self.device, pixels=pixels if in_file else cast("torch.Tensor", None)
        )
        call = put(partial(_rows, task, there, size, frozenset(cluster.kinds)), what)
        most = max(1, min(_MOST_BATCHES, _MOST_BYTES // max(1, size * math.prod(inputs.shape))))
        parts = (
            _Range(
                start,
                stop,
                self._references[model],
                None if in_file else pages.of(pixels, inputs.at[start:stop]),
            )
            for start, stop in ranges(len(inputs), size=size, workers=cluster.workers, most=most)
        )
        rows = []
        for _, _, result in cluster.run(call, parts, what=what, gpus=cluster.options.ray_gpus):
            if isinstance(result, FileNotFoundError) and in_file:
                pages.by_file = False  # A node lacks the file of the pixels, so all is made again.
                return self.over_batches(task, model, inputs, size=size)
            if isinstance(result, Exception):
                raise result
            rows.append(result)
        return np.concatenate(rows)
