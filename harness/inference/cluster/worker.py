"""Code of a worker: it runs models over ranges of inputs and describes its platform."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from harness.base.errors import ClusterError, InputError
from harness.inference import screening
from harness.inference.cluster.serialization import received
from harness.inference.engine import Engine
from harness.inference.platforms import Platform, this_platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from harness.inference.backend import BatchTask, Perturbed

Precision = Literal["exact", "lowered", "autocast"]
"""float32; bfloat16 with weights cast in advance ("lowered"), or with those that autocast casts."""

_HELD = 4
"""Number of models that a worker keeps: those of the roles, and a mutant."""


@dataclass(frozen=True)
class LogitsTask:
    """Task for a range: logits in one precision, and the number of times that batches were halved for memory."""

    classes: int
    precision: Precision
    halvings: int


@dataclass(frozen=True, eq=False)
class RangeResult:
    """Result of a worker for a range: a row per input, or its error, and the `seconds` it took.

    `halvings` is the number that it needed. `blind` is true if the images' file is missing on its node.
    """

    rows: np.ndarray | None = None
    error: Exception | None = None
    halvings: int = 0
    blind: bool = False
    seconds: float = 0.0


class Worker:
    """Runs models over ranges of inputs on one thread, as a Ray actor.

    Every range comes with a reference to its model in the object store, which the worker reads once. A new worker in
    place of a dead one therefore needs no other information.
    """

    def __init__(self, path: list[str], folder: str, *, gpus: bool) -> None:
        enter(path, folder)
        self._device = torch.device("cuda" if gpus else "cpu")
        self._held: OrderedDict[str, _Held] = OrderedDict()

    def facts(self) -> Platform:
        """Return the platform, which determines the bits here."""
        return this_platform(self._device)

    def run(
        self, model: list[Any], task: LogitsTask | BatchTask, inputs: bytes, pages: Mapping[int, Any]
    ) -> RangeResult:
        """Return the task's result for pickled inputs and their `pages`, with the model of the reference."""
        start = time.perf_counter()
        try:
            held = self._model(model[0])
            given = received(pickle.loads(inputs), pages)  # noqa: S301  Our own process sent it.
        except FileNotFoundError:
            return RangeResult(blind=True)
        except ModuleNotFoundError as error:
            said = f"a worker of the cluster has no module {error.name!r}; install it on every node"
            return RangeResult(error=ClusterError(said))
        try:
            result = held.result(task, given)
        except Exception as error:  # The model may raise any exception.
            kept = error if isinstance(error, InputError) else RuntimeError(str(error))
            return RangeResult(error=kept, seconds=time.perf_counter() - start)
        return replace(result, seconds=time.perf_counter() - start)

    def _model(self, reference: Any) -> _Held:
        name = reference.hex()
        if name not in self._held:
            import ray

            model = pickle.loads(ray.get(reference))  # noqa: S301  Our own process put it there.
            self._held[name] = _Held(model.to(self._device, memory_format=torch.channels_last), self._device)
            while len(self._held) > _HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(name)
        return self._held[name]


class _Held(Engine):
    """A model in a worker, which runs it like the backend of a process."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__(model, device=device, workers=1, screen=False)

    @cached_property
    def _cast(self) -> nn.Module:
        return screening.lowered(self.model)

    def result(self, task: LogitsTask | BatchTask, inputs: Perturbed) -> RangeResult:
        """Return the task's result for the inputs, made on this device."""
        inputs = replace(inputs, device=self.device)
        if not isinstance(task, LogitsTask):
            return RangeResult(task(self.model, inputs, 1))
        self._shape, self._halvings = inputs.shape, task.halvings
        by = None if task.precision == "exact" else self._cast if task.precision == "lowered" else self.model
        rows = self._run(np.arange(len(inputs)), inputs, task.classes, screened_by=by)
        return RangeResult(rows, halvings=self._halvings)


def place() -> tuple[list[str], str]:
    """Return this process's search path of modules and its working directory."""
    # An entry may be "".
    return [os.path.abspath(each) for each in sys.path], str(Path.cwd())  # noqa: PTH100


def enter(path: list[str], folder: str) -> None:
    """Adopt another process's `place`: its search path, and its working directory if this node has it."""
    sys.path[:] = [*path, *(each for each in sys.path if each not in path)]
    with suppress(OSError):
        os.chdir(folder)
