"""A model ready to predict: folded, run by the engine, its answers remembered in memory and on disk."""

from __future__ import annotations

import hashlib
import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from harness.data.images import LabelledImages, unit_range
from harness.inference.devices import available_cores
from harness.inference.engine import BFLOAT16_BATCH, FLOAT32_BATCH, Engine
from harness.inference.folding import folded
from harness.inference.predictions import Predictions
from harness.networks.allocator import keep_freed_buffers
from harness.networks.checkpoints import hash_tensors
from harness.networks.evaluating import evaluation_copy
from harness.perturb import IDENTITY, PROTOCOL, Perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from harness.perturb import Pose
    from harness.store.cache import PredictionCache

T = TypeVar("T")


class Classifier:
    """A model ready to predict; asked again for the same images and perturbation, it remembers the answer.

    With a `cache` it also remembers what earlier runs predicted, provided that all that decides a prediction can be
    named: the model's computation can be traced, and the perturbation is one of this package, under the protocol.
    Batch norms are folded into the convolutions before them, which changes logits by less than 1e-5. The model given
    is left as it is. `workers` batches run side by side, each on one thread, so that the result has the same bits for
    any number of workers. `screen` lets bfloat16 find the clear answers first, see `Engine`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "cpu",
        workers: int | None = None,
        cache: PredictionCache | None = None,
        screen: bool = True,
    ) -> None:
        keep_freed_buffers()
        self.device = torch.device(device)
        self.workers = workers or available_cores()
        self.plain = _laid_out(evaluation_copy(model), self.device)
        """The model as it was given, layers under their own names."""
        self.model = _laid_out(folded(self.plain), self.device)
        self._engine = Engine(self.model, device=self.device, workers=self.workers, screen=screen)
        self._cache = cache
        self._reference = ""
        self._remembered: dict[Hashable, Predictions] = {}
        self._asked: dict[Hashable, Any] = {}

    def measure_precision_on(self, images: LabelledImages) -> None:
        """Have it measured on these images, when it first matters, which bfloat16 answers are clear; see `Engine`.

        Without this the first images asked for decide, so that the last bits of clear answers depend on their order.
        """
        self._engine.reference = (len(images), lambda positions: self.pixels(images, positions))
        self._reference = images.sha256

    def predict(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> Predictions:
        """Predict every image under the perturbation.

        Raises `ModelError` when the model raises, returns a non-finite value, or returns anything but one logit per
        class and image.
        """
        if (transform := remembered_as(perturbation)) is None:
            return self._predictions(images, perturbation)
        key = (images.sha256, tuple(images.pixels.shape), transform)
        if key not in self._remembered:
            self._remembered[key] = self._predictions(images, perturbation)
        remembered = self._remembered[key]
        if remembered.images is images:
            return remembered
        # Equal pixels may go by other names.
        return Predictions(remembered.answers, images, perturbation, exact=lambda: remembered.logits)

    def predict_pairs(
        self, images: LabelledImages, positions: np.ndarray, poses: Sequence[Pose], which: np.ndarray
    ) -> np.ndarray:
        """Predict image `positions[i]` in pose `poses[which[i]]` for each of M pairs; returns classes, (M,) int64.

        Runs fastest when equal poses stand together. Raises `ModelError` as `predict` does.
        """

        def inputs(pairs: np.ndarray) -> Tensor:
            pixels = self.pixels(images, positions[pairs])
            # One pose at a time: picking pixels for many images alike is cheaper than for each its own.
            numbers = which[pairs]
            ends = [*(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
            starts = [0, *ends[:-1]]
            return torch.cat([poses[numbers[a]](pixels[a:b]) for a, b in zip(starts, ends, strict=True)])

        what = f"{len(positions)} images in poses"
        logits = self._engine.logits(len(positions), inputs, classes=len(images.classes), what=what)
        return np.asarray(logits.argmax(axis=1))

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
        layers = "".join(f"{name} {type(layer)} {_settings(layer)}" for name, layer in self.model.named_modules())
        return hashlib.sha256(f"{self.model.code} {layers} {hash_tensors(tensors)}".encode()).hexdigest()

    def kept(
        self,
        what: object,
        images: LabelledImages,
        shape: tuple[int, ...],
        compute: Callable[[], np.ndarray],
        *,
        perturbation: Perturbation = IDENTITY,
    ) -> np.ndarray:
        """Return what `compute` gives for these images, of this shape, from the cache if it is there.

        The `repr` of `what` must name all that decides the values besides the model, the images, the perturbation and
        the protocol. Values are kept as float32, and not at all under a perturbation from outside of this package.
        """
        if self._cache is None or self.fingerprint is None or not _is_ours(perturbation):
            return compute()
        batches = (FLOAT32_BATCH, BFLOAT16_BATCH)
        decisive = (self.fingerprint, images.sha256, tuple(images.pixels.shape), what, perturbation, PROTOCOL, batches)
        screening = self._reference if self._engine.screens else None
        platform = (self.device.type, screening, torch.__version__, torch.backends.cpu.get_cpu_capability())
        key = hashlib.sha256(repr((decisive, platform)).encode()).hexdigest()
        values = self._cache.load(key, shape)
        if values is None:
            values = compute()
            self._cache.store(key, values)
        return values

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        count, labels, classes = len(images), images.labels.numpy(), len(images.classes)
        what = f"images {tuple(images.pixels.shape)} under {perturbation}"

        def inputs(positions: np.ndarray) -> Tensor:
            return perturbation(self.pixels(images, positions))

        def wrong(logits: np.ndarray) -> np.ndarray:
            return np.asarray(logits.argmax(axis=1) != labels)

        def answers() -> np.ndarray:
            return self._engine.logits(count, inputs, classes=classes, what=what, exact=wrong)

        def logits() -> np.ndarray:
            return self._engine.exact_logits(count, inputs, classes=classes, what=what)

        def kept(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
            return self.kept(name, images, (count, classes), compute, perturbation=perturbation)

        return Predictions(
            kept("answers", answers),
            images,
            perturbation,
            exact=(lambda: kept("logits", logits)) if self._engine.screens_for(count) else None,
        )

    def pixels(self, images: LabelledImages, positions: np.ndarray) -> Tensor:
        """Return the images at these positions as the model takes them, (M, C, H, W) float32 on its device."""
        return unit_range(images.pixels[torch.from_numpy(positions)].to(self.device))

    def remembered(self, what: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gave when this was first asked for; `what` must name all that decides it."""
        if what not in self._asked:
            self._asked[what] = compute()
        answer: T = self._asked[what]
        return answer


def remembered_as(perturbation: Perturbation) -> object:
    """Return what tells the perturbation from others; None where nothing does, so that its results are not remembered.

    Of a user's own it is the object itself, equal to others as its class says, besides its `repr`: classes in two files
    may have one `repr`, and that of a large array leaves most of it out.
    """
    if _is_ours(perturbation):
        return repr(perturbation)
    try:
        hash(perturbation)
    except TypeError:
        return None
    return perturbation, repr(perturbation)


def _is_ours(perturbation: Perturbation) -> bool:
    return type(perturbation).__module__.startswith("harness.")


def _settings(layer: nn.Module) -> str:
    """Return how a layer was set up; its `extra_repr` alone leaves some out, such as how an upsampling aligns."""
    named = {name: value for name, value in vars(layer).items() if not name.startswith("_") and name != "training"}
    plain = {name: value for name, value in named.items() if isinstance(value, bool | int | float | str | tuple | None)}
    return f"{layer.extra_repr()} {sorted(plain.items())!r}"


def _laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
