"""The backend of a cluster: this process decides what to compute, and the workers compute it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from harness.base.errors import ClusterError
from harness.inference.cluster.nodes import Nodes, held, put
from harness.inference.cluster.serialization import Pages, SentPixels, in_named_file
from harness.inference.engine import Engine
from harness.inference.platforms import this_platform
from harness.inference.screening import Screen

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from torch import nn

    from harness.inference.backend import Perturbed
    from harness.inference.engine import BatchTask
    from harness.networks.options import BackendOptions

_MOST_BYTES, _MOST_BATCHES = 32 << 20, 64
"""Limits of a range, so a lost worker costs little."""
_PARTS = 4
"""A range is one part in this many of a worker's share of the rest, so all workers finish at nearly the same time."""


class Cluster(Nodes):
    """A cluster that makes backends, which run models on its workers."""

    def __init__(self, options: BackendOptions) -> None:
        super().__init__(options)
        self.pages = Pages()
        self.reads_files = True
        """False once a node lacks a file with pixels, which then travel."""

    def __call__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool) -> Engine:  # noqa: ARG002
        """Return a backend for the model; the cluster determines the device and the number of workers."""
        self.start()
        return _OnCluster(model, self, screen=screen)


@cache
def cluster_of(options: BackendOptions) -> Cluster:
    """Return the cluster of these options, one for this process."""
    return Cluster(options)


def ranges(count: int, *, size: int, workers: int, most: int) -> Iterator[tuple[int, int]]:
    """Divide `count` inputs into ranges of whole batches of `size`, at most `most` batches each; the last are small.

    The inputs of a batch depend only on `size`, and so do the bits.
    """
    start = 0
    while start < count:
        batches = -(-(count - start) // size) // (workers * _PARTS)
        stop = min(count, start + size * min(most, max(1, batches)))
        yield start, stop
        start = stop


@dataclass(frozen=True)
class _Range:
    """The inputs from `start` to before `stop`: whole batches, except in the last range of a call.

    It has a reference to the model, and its pixels unless a file has them. Ray would never release what these refer to
    inside pickled bytes.
    """

    start: int
    stop: int
    model: Any
    pixels: SentPixels | None

    def __str__(self) -> str:
        return f"images {self.start} to {self.stop - 1}"


def _rows(task: BatchTask, inputs: Perturbed, size: int, kinds: frozenset[str], part: _Range) -> np.ndarray:
    """Return the task's rows of a range in a worker; `kinds` are the platforms that the run has reported."""
    if (kind := this_platform(inputs.device).kind) not in kinds:
        raise ClusterError(f"a node has joined that is {kind}, unlike the nodes at the start of the run; remove it")
    inputs = inputs.only(np.arange(part.start, part.stop))
    if part.pixels is not None:
        inputs = replace(inputs, pixels=cast("torch.Tensor", part.pixels))
    return task(held(part.model).to(inputs.device, memory_format=torch.channels_last), inputs, size, 1)


class _OnCluster(Engine):
    """The engine of a process, with the computation on workers: screening, repetition and batch sizes are the same.

    Ranges are whole batches, so the bits are the same too.
    """

    def __init__(self, model: nn.Module, cluster: Cluster, *, screen: bool) -> None:
        super().__init__(model, device=cluster.device, workers=1, screen=False)
        self.screen = Screen(model) if screen and cluster.bfloat16 else None
        self._cluster = cluster
        self._references: dict[nn.Module, Any] = {}

    @property
    def decides(self) -> Hashable:
        """Return the same as in one process; with other platforms than this one's, these too."""
        here, kinds = super().decides, sorted(self._cluster.kinds)
        there = self.device.type == "cpu" or torch.cuda.is_available()
        return here if there and kinds == [this_platform(self.device).kind] else (here, *kinds)

    def over_batches(self, task: BatchTask, model: nn.Module, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return the task's result for the inputs; all is made again if a node lacks the file of the pixels."""
        cluster, pixels = self._cluster, inputs.pixels
        if model not in self._references:
            self._references[model] = put(model, "the model")
        by_file = cluster.reads_files and in_named_file(pixels)
        there = replace(inputs, device=self.device, pixels=pixels if by_file else cast("torch.Tensor", None))
        call = put(partial(_rows, task, there, size, frozenset(cluster.kinds)), str(inputs))
        most = max(1, min(_MOST_BATCHES, _MOST_BYTES // max(1, size * math.prod(inputs.shape))))
        parts = (
            _Range(start, stop, self._references[model], None if by_file else cluster.pages.of(pixels, at))
            for start, stop in ranges(len(inputs), size=size, workers=cluster.workers, most=most)
            for at in [inputs.at[start:stop]]
        )
        rows = []
        for _, _, result in cluster.run(call, parts, what=str(inputs), gpus=cluster.options.ray_gpus):
            if isinstance(result, FileNotFoundError) and by_file:
                cluster.reads_files = False
                return self.over_batches(task, model, inputs, size=size)
            if isinstance(result, Exception):
                raise result
            rows.append(result)
        return np.concatenate(rows)
