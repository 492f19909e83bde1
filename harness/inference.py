"""Predictions of a model over images and perturbations: in fixed batches, in parallel over shards, remembered."""

from __future__ import annotations

import copy
import hashlib
import operator
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace

from harness.allocator import keep_freed_buffers
from harness.checkpoints import hash_tensors
from harness.data.images import LabelledImages, unit_range
from harness.errors import InputError
from harness.perturb import IDENTITY, PROTOCOL, Perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness.cache import PredictionCache
    from harness.perturb import Pose

T = TypeVar("T")

BATCH = 125
"""Images per forward pass; smaller batches are padded, because the shape may change the last bits of a result."""


class ModelError(InputError):
    """The model could not be judged: it raised, or returned NaN or the wrong shape."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of N images under one perturbation; `logits` is (N, classes) float32."""

    logits: np.ndarray
    images: LabelledImages
    perturbation: Perturbation

    @property
    def labels(self) -> np.ndarray:
        """Return the true classes, (N,) int64."""
        return self.images.labels.numpy()

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.images.classes

    def perturbation_of(self, position: int) -> Perturbation:  # noqa: ARG002  The same for every image.
        """Return the perturbation under which the image at this position was seen."""
        return self.perturbation

    @cached_property
    def predicted(self) -> np.ndarray:
        """Return the predicted class of each image, (N,) int64."""
        return np.asarray(self.logits.argmax(axis=1))

    @cached_property
    def correct(self) -> np.ndarray:
        """Return whether each prediction is right, (N,) bool."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, (N, classes) in [0, 1]."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    @cached_property
    def confidence(self) -> np.ndarray:
        """Return the probability of each predicted class, (N,) in [0, 1]."""
        return np.asarray(self.probabilities.max(axis=1))


class Classifier:
    """A model ready to predict; asked again for the same images and perturbation, it remembers the answer.

    With a `cache` it also remembers what earlier runs predicted, provided that all that decides a prediction can be
    named: the model's computation can be traced, and the perturbation is one of this package, under the protocol.

    Batch norms are folded into the convolutions before them, which changes logits by less than 1e-5. The model given
    is left as it is. `workers` shards of images run side by side, each on one thread, so that the result has the same
    bits for any number of workers.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "cpu",
        workers: int | None = None,
        cache: PredictionCache | None = None,
    ) -> None:
        keep_freed_buffers()
        self.device = torch.device(device)
        self.workers = workers or available_cores()
        self.model = _folded(model).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cache = cache
        self._remembered: dict[tuple[str, tuple[int, ...], str], Predictions] = {}

    def predict(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> Predictions:
        """Predict every image under the perturbation.

        Raises `ModelError` when the model raises, returns a non-finite value, or returns anything but one logit per
        class and image.
        """
        key = (images.sha256, tuple(images.pixels.shape), repr(perturbation))
        if key not in self._remembered:
            self._remembered[key] = Predictions(self._kept_logits(images, perturbation), images, perturbation)
        remembered = self._remembered[key]
        if remembered.images is images:
            return remembered
        return Predictions(remembered.logits, images, perturbation)  # Equal pixels may go by other names.

    @cached_property
    def fingerprint(self) -> str | None:
        """Return a hash of the model's whole computation, None for a model that cannot be traced.

        Of the traced code, the layers and every tensor: equal for the same network in another file, different when the
        code of a network changes though its weights do not.
        """
        if not isinstance(self.model, GraphModule):
            return None
        tensors = {**self.model.state_dict(), **dict(self.model.named_buffers())}
        for node in self.model.graph.nodes:
            if node.op == "get_attr":
                tensors[str(node.target)] = operator.attrgetter(str(node.target))(self.model)
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            return None
        layers = "".join(f"{name} {type(layer)} {layer.extra_repr()}" for name, layer in self.model.named_modules())
        return hashlib.sha256(f"{self.model.code} {layers} {hash_tensors(tensors)}".encode()).hexdigest()

    def _kept_logits(self, images: LabelledImages, perturbation: Perturbation) -> np.ndarray:
        def compute() -> np.ndarray:
            return self._logits(images, perturbation)

        if not type(perturbation).__module__.startswith("harness."):
            return compute()
        return self.kept(("logits", perturbation), images, (len(images), len(images.classes)), compute)

    def kept(
        self, what: object, images: LabelledImages, shape: tuple[int, ...], compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return what `compute` gives for these images, of this shape, from the cache if it is there.

        The `repr` of `what` must name all that decides the values besides the model, the images and the protocol.
        Values are kept as float32.
        """
        if self._cache is None or self.fingerprint is None:
            return compute()
        decisive = (self.fingerprint, images.sha256, tuple(images.pixels.shape), what, PROTOCOL, BATCH)
        platform = (self.device.type, "float32", torch.__version__, torch.backends.cpu.get_cpu_capability())
        key = hashlib.sha256(repr((decisive, platform)).encode()).hexdigest()
        values = self._cache.load(key, shape)
        if values is None:
            values = compute()
            self._cache.store(key, values)
        return values

    def predict_pairs(
        self, images: LabelledImages, positions: np.ndarray, poses: Sequence[Pose], which: np.ndarray
    ) -> np.ndarray:
        """Predict image `positions[i]` in pose `poses[which[i]]` for each of M pairs; returns classes, (M,) int64.

        Runs fastest when equal poses stand together. Raises `ModelError` as `predict` does.
        """

        def transformed(pixels: Tensor, numbers: np.ndarray) -> Tensor:
            # One pose at a time: picking pixels for many images alike is cheaper than for each its own.
            ends = [*(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
            starts = [0, *ends[:-1]]
            return torch.cat([poses[numbers[a]](pixels[a:b]) for a, b in zip(starts, ends, strict=True)])

        def predict_batch(start: int) -> Tensor:
            chosen, numbers = positions[start : start + BATCH], which[start : start + BATCH]
            pixels = images.pixels[torch.from_numpy(chosen)]
            inputs = transformed(unit_range(pixels.to(self.device)), numbers)
            return self._forward(_padded(inputs), images=len(pixels), classes=len(images.classes)).argmax(1)

        return self._in_shards(predict_batch, range(0, len(positions), BATCH), f"{len(positions)} images in poses")

    def _logits(self, images: LabelledImages, perturbation: Perturbation) -> np.ndarray:
        def predict_batch(pixels: Tensor) -> Tensor:
            inputs = perturbation(unit_range(_padded(pixels).to(self.device)))
            return self._forward(inputs, images=len(pixels), classes=len(images.classes))

        shape = tuple(images.pixels.shape)
        return self._in_shards(predict_batch, torch.split(images.pixels, BATCH), f"images {shape} under {perturbation}")

    def _forward(self, inputs: Tensor, *, images: int, classes: int) -> Tensor:
        logits = self.model(inputs.contiguous(memory_format=torch.channels_last))
        return _checked(logits, images=images, classes=classes).cpu()

    def _in_shards(self, predict: Callable[[T], Tensor], shards: Iterable[T], what: str) -> np.ndarray:
        """Return the results of all shards, joined; shards run side by side on one thread each."""

        def run(shard: T) -> Tensor:
            with torch.inference_mode():
                return predict(shard)

        try:
            with _one_thread_per_worker(), ThreadPoolExecutor(self.workers) as pool:
                return torch.cat(list(pool.map(run, shards))).numpy()
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"the model failed on {what}: {error}") from error


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pick_device(wanted: str = "auto") -> str:
    """Return the device to run on: the one asked for, or for "auto" CUDA, MPS or the CPU, the first there is.

    Raises `InputError` when PyTorch does not know the device or has none.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {wanted!r} cannot be used ({reason}); expected auto, cpu, cuda or mps") from None
    return wanted


def _folded(model: nn.Module) -> nn.Module:
    """Return an evaluation copy of the model, batch norms folded into the convolutions before them where possible."""
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    plain = copy.deepcopy(model).eval().requires_grad_(requires_grad=False)
    if _has_hooks(plain):  # Tracing would lose them.
        return plain
    try:
        traced = symbolic_trace(plain)
    except Exception:  # Tracing runs the user's code symbolically and may fail in any way; the plain model is right.
        return plain
    layers = dict(traced.named_modules())
    calls = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        if not _is_layer_pair(node):
            continue
        before = node.args[0]
        conv, norm = layers[before.target], layers[node.target]
        # A convolution called twice, or whose output or weights are also used elsewhere, must stay as it is.
        weights = {f"{before.target}.weight", f"{before.target}.bias"}
        alone = len(before.users) == calls[before.target] == 1 and weights.isdisjoint(calls)
        if _can_fold(conv, norm) and alone:
            layers[before.target] = fuse_conv_bn_eval(conv, norm)
            traced.set_submodule(before.target, layers[before.target])
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced


def _has_hooks(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    # The very classes: a subclass may compute anything, and a hook may see or change what lies between the two.
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
    return plain and norm.running_mean is not None and not _has_hooks(conv) and not _has_hooks(norm)


def _is_layer_pair(node: Node) -> bool:
    return (
        node.op == "call_module"
        and bool(node.args)
        and isinstance(node.args[0], Node)
        and node.args[0].op == "call_module"
    )


def _padded(pixels: Tensor) -> Tensor:
    missing = BATCH - len(pixels)
    return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing else pixels


def _checked(logits: object, *, images: int, classes: int) -> Tensor:
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(logits).__name__}, expected a tensor of logits")
    if logits.shape != (BATCH, classes):
        raise ModelError(
            f"the model returned logits of shape {tuple(logits.shape)} for {BATCH} images of data with "
            f"{classes} classes, expected {(BATCH, classes)}"
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
