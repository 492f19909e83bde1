"""The backend of a cluster: this process decides what to compute, and the workers compute it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.inference.backend import Perturbed
from harness.inference.cluster.pool import Pool
from harness.inference.cluster.scheduling import speeds
from harness.inference.cluster.serialization import packed_model
from harness.inference.cluster.worker import LogitsTask
from harness.inference.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    import torch
    from torch import nn

    from harness.inference.backend import Backend, BatchTask
    from harness.inference.cluster.worker import Precision
    from harness.networks.options import BackendOptions


class Cluster:
    """Makes backends that run models on the workers of one cluster."""

    def __init__(self, options: BackendOptions) -> None:
        self._pool = Pool(options)

    def __call__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool) -> Backend:  # noqa: ARG002
        """Return a backend for the model; the cluster determines the device and the number of workers."""
        self._pool.start()
        return _OnCluster(model, self._pool, screen=screen)

    def start(self) -> None:
        """Join the cluster and start its workers, unless they have started; raises `InputError` if it fails."""
        self._pool.start()

    def close(self) -> None:
        """End the workers; the next use starts others."""
        self._pool.close()

    @property
    def kinds(self) -> Mapping[str, int]:
        """Return the kinds of the workers' platforms as text, with the number of workers of each."""
        return self._pool.kinds

    def summary(self) -> str:
        """Return a line with the number of workers and their speeds."""
        return f"cluster: {len(self._pool.done)} workers; {speeds(self._pool.done.values())}"


@cache
def cluster_of(options: BackendOptions) -> Cluster:
    """Return the cluster of these options, one for this process."""
    return Cluster(options)


class _OnCluster(Engine):
    """The engine of a process, with the computation on workers: screening, repetition and batch sizes are the same.

    Ranges are whole batches, so the bits are the same too.
    """

    def __init__(self, model: nn.Module, pool: Pool, *, screen: bool) -> None:
        super().__init__(model, device=pool.device, workers=1, screen=False)
        self._pool = pool
        self.screens = screen and pool.bfloat16
        if self.screens:
            self._lead = None
        self._references: dict[int, tuple[nn.Module, Any]] = {}

    @property
    def decides(self) -> Hashable:
        """Return the same as in one process; with other platforms than this one's, these too."""
        here = super().decides
        return here if self._pool.like_this_process else (here, *sorted(self._pool.kinds))

    def over_batches(self, task: BatchTask, model: nn.Module, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return the task's result for the inputs with the model, in batches of this size."""
        return _joined(self._pool.run(self._reference_to(model), task, inputs, size=size))

    def _run(
        self,
        positions: np.ndarray,
        inputs: Callable[[np.ndarray], torch.Tensor],
        classes: int,
        *,
        screened_by: nn.Module | None = None,
    ) -> np.ndarray:
        if not isinstance(inputs, Perturbed):
            raise TypeError("inputs of a cluster's workers: expected `Perturbed`, which can be sent")
        if not len(positions):
            return np.empty((0, classes), dtype=np.float32)
        precision: Precision = (
            "exact" if screened_by is None else "autocast" if screened_by is self.model else "lowered"
        )
        some, model = inputs.only(positions), self._reference_to(self.model)
        self._shape = some.shape
        while True:
            size = self._size(low=precision != "exact")
            results = self._pool.run(model, LogitsTask(classes, precision, self._halvings), some, size=size)
            halvings = max(result.halvings for result in results)
            if halvings == self._halvings:
                return _joined(results)
            self._halvings = halvings  # As in one process, all batches of a call have one size.

    def _reference_to(self, model: nn.Module) -> Any:
        """Return a reference to a model in the object store; each model is stored once while this backend lives."""
        import ray

        if id(model) not in self._references:
            self._references[id(model)] = model, ray.put(packed_model(model))
        return self._references[id(model)][1]


def _joined(results: list[Any]) -> np.ndarray:
    return np.concatenate([result.rows for result in results])
