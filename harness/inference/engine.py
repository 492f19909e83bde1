"""Forward passes in this process: fixed padded batches, one thread each; bfloat16 screens, float32 confirms."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import InputError, raised
from harness.networks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

FLOAT32_BATCH, BFLOAT16_BATCH = 32, 125
"""Images per forward pass in each precision. Smaller batches are padded, because the shape may change the last bits of
a result; float32 mostly confirms a few answers, so that large batches would be mostly padding."""

_TRIED = 250
"""Images on which the two precisions are compared before bfloat16 may screen."""
_CAUTION = 4.0
"""An answer is clear when its lead is above this many times the largest difference of a logit seen then. The lead of a
wrong answer is at most twice the difference, so that this is twice what it must be."""
_NEVER = float("inf")
_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
"""Instruction sets that oneDNN may be limited to, in which it has no bfloat16."""
_PATIENCE = 1.0
"""Seconds that a batch may take to end when its results are no longer wanted."""

T = TypeVar("T")


class ModelError(InputError):
    """The model could not be judged: it raised, or returned NaN or the wrong shape."""


class Engine:
    """The backend that runs a model in this process, `workers` batches side by side, one thread each.

    Where the processor computes in bfloat16, a first pass in it finds which class leads, and images whose lead is not
    clear are done again in float32: the predicted classes are float32's, at about two thirds of the time. How far the
    two precisions differ for this model is measured on the inputs named for it, or else the first that it sees; a model
    that fails in bfloat16, or differs much, is run in float32 alone.
    """

    def __init__(self, model: nn.Module, *, device: torch.device, workers: int, screen: bool = True) -> None:
        self.model = model
        self.device = device
        self.workers = workers
        self.screens = screen and _has_bfloat16(device)
        """Whether bfloat16 may screen here, for a model that lets it."""
        self._reference: tuple[int, Callable[[np.ndarray], Tensor]] | None = None
        self._reference_name = ""
        self._lead: float | None = None if self.screens else _NEVER

    @property
    def decides(self) -> Hashable:
        """Return what decides the last bits: the sizes of batches, what screening was measured on, the platform."""
        screening = self._reference_name if self.screens else None
        platform = (self.device.type, screening, torch.__version__, torch.backends.cpu.get_cpu_capability())
        return (FLOAT32_BATCH, BFLOAT16_BATCH), platform

    def measure_precision_on(self, count: int, inputs: Callable[[np.ndarray], Tensor], *, name: str) -> None:
        """Have it measured on these inputs, when it first matters, which bfloat16 answers are clear.

        Without this the first inputs asked for decide, so that the last bits of clear answers depend on their order.
        """
        self._reference, self._reference_name = (count, inputs), name

    def screens_for(self, count: int) -> bool:
        """Return whether bfloat16 comes first for so many inputs; for a few batches it would not pay."""
        return self.screens and count > _TRIED

    def exact_logits(
        self, count: int, inputs: Callable[[np.ndarray], Tensor], *, classes: int, what: str
    ) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes), all computed in float32; see `logits`."""
        with named(what):
            return self._run(np.arange(count), inputs, classes, screening=False)

    def logits(
        self,
        count: int,
        inputs: Callable[[np.ndarray], Tensor],
        *,
        classes: int,
        what: str,
        exact: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return the logits of `count` inputs, (count, classes) float32.

        `inputs` makes those at the positions given, one batch of them, as pixels on the device. The leading class is
        float32's for all; the logits are float32's for those whose lead is not clear, and for those that `exact` picks,
        given the logits of the first pass. Raises `ModelError`, which names `what`, when the model fails.
        """
        everything = np.arange(count)
        with named(what):
            if self._lead is None and self.screens_for(count):
                tried, make = self._reference or (count, inputs)
                self._lead = self._clear_lead(np.arange(min(tried, _TRIED)), make, classes)
            if not self.screens_for(count) or self._lead is None or self._lead == _NEVER:
                return self._run(everything, inputs, classes, screening=False)
            logits = self._run(everything, inputs, classes, screening=True)
            doubtful = ~(_leads(logits) > self._lead)
            if exact is not None:
                doubtful |= exact(logits)
            if doubtful.any():
                logits[doubtful] = self._run(np.flatnonzero(doubtful), inputs, classes, screening=False)
            return logits

    def _clear_lead(self, some: np.ndarray, inputs: Callable[[np.ndarray], Tensor], classes: int) -> float:
        """Return the lead from which on a bfloat16 answer is clear; infinite when too few would be."""
        reference = self._run(some, inputs, classes, screening=False)
        try:
            screened = self._run(some, inputs, classes, screening=True)
        except Exception:  # The model cannot compute in bfloat16, which is no fault of it.
            return _NEVER
        lead = _CAUTION * float(np.abs(screened - reference).max())
        return lead if (_leads(screened) > lead).mean() > 1 / 2 else _NEVER

    def _run(
        self, positions: np.ndarray, inputs: Callable[[np.ndarray], Tensor], classes: int, *, screening: bool
    ) -> np.ndarray:
        size = BFLOAT16_BATCH if screening else FLOAT32_BATCH

        def predict(batch: np.ndarray) -> Tensor:
            precision = torch.autocast(self.device.type, torch.bfloat16) if screening else nullcontext()
            with torch.inference_mode():
                pixels = padded(inputs(batch), size).contiguous(memory_format=torch.channels_last)
                with precision:
                    logits = self.model(pixels)
                return checked(logits, (size, classes), images=len(batch)).cpu()

        if not len(positions):
            return np.empty((0, classes), dtype=np.float32)
        return np.asarray(torch.cat(in_batches(predict, positions, size=size, workers=self.workers)).numpy())


def in_batches(work: Callable[[np.ndarray], T], positions: np.ndarray, *, size: int, workers: int) -> list[T]:
    """Return what `work` gives for each batch of positions, in order; `workers` run at a time, on one thread each.

    Raises what the first batch that fails raises. The threads are daemons, unlike those of a pool, so that a model that
    never returns does not keep the process from ending.
    """
    batches = [positions[start : start + size] for start in range(0, len(positions), size)]
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(batches)):
        waiting.put(number)
    finished: queue.SimpleQueue[int] = queue.SimpleQueue()
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}
    abandoned = threading.Event()

    def take() -> None:
        while not (errors or abandoned.is_set()):
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                try:
                    results[number] = work(batches[number])
                finally:
                    settings.restore()
            except Exception as error:  # Raised again by whoever waits.
                errors[number] = error
            except BaseException as error:  # The model's own: what ends a run reaches the main thread alone.
                errors[number] = raised(error)
            finished.put(number)

    with _one_thread_per_worker():
        settings = Settings()
        threads = [threading.Thread(target=take, daemon=True) for _ in range(min(workers, len(batches)))]
        for thread in threads:
            thread.start()
        try:
            for _ in batches:
                if finished.get() in errors:
                    break
        finally:
            abandoned.set()
            for thread in threads:
                thread.join(_PATIENCE)
    if errors:
        raise errors[min(errors)]
    return [results[number] for number in range(len(batches))]


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turn whatever a model raises into a `ModelError` that names what it was run on."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise ModelError(f"the model failed on {what}: {error}") from error


def _has_bfloat16(device: torch.device) -> bool:
    # oneDNN's own test: without AVX-512 bfloat16 is emulated, and slower than float32. It asks the processor alone,
    # though oneDNN may have been told to stay below.
    limited = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _WITHOUT_BFLOAT16
    supported = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    return device.type == "cpu" and supported and not limited


def _leads(logits: np.ndarray) -> np.ndarray:
    """Return by how much the first class leads the second, (N,); of a single class, infinitely much."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.inf)
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    return np.asarray(first - second)


def padded(pixels: Tensor, size: int) -> Tensor:
    """Return the images (N, C, H, W) with black ones after them, so that they are `size`."""
    missing = size - len(pixels)
    return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing else pixels


def checked(logits: object, shape: tuple[int, int], *, images: int) -> Tensor:
    """Return the logits of the first `images` as float32; raises `ModelError` unless all are finite and of `shape`."""
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(logits).__name__}, expected a tensor of logits")
    if logits.shape != shape:
        raise ModelError(
            f"the model returned logits of shape {tuple(logits.shape)} for {shape[0]} images of data with "
            f"{shape[1]} classes, expected {shape}"
        )
    logits = logits[:images].float()
    if not logits.isfinite().all():
        raise ModelError(f"the model returned NaN or infinity for {int((~logits.isfinite()).any(1).sum())} images")
    return logits


@contextmanager
def _one_thread_per_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
