"""A model ready to predict: folded, run by a backend, its answers remembered in memory and cached on disk."""

from __future__ import annotations

import hashlib
import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from harness.inference.backend import Perturbed, Spreading
from harness.inference.backends import backend_named
from harness.inference.devices import available_cores, side_by_side
from harness.inference.engine import checked, named
from harness.inference.graph import folded, pooled_by_maxima
from harness.inference.platforms import computing_code
from harness.inference.predictions import Predictions
from harness.inference.predictors.network import PredictorNetwork
from harness.inference.predictors.protocol import OF_NETWORKS
from harness.inference.workers import in_batches
from harness.networks.checkpoints import hash_tensors
from harness.networks.evaluation import evaluation_copy
from harness.networks.process import keep_freed_buffers
from harness.perturb import IDENTITY, PROTOCOL, Perturbation
from harness.perturb.corruptions import Corruption

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from harness.base import PredictionCache
    from harness.data.images import LabelledImages
    from harness.inference.backend import Backend, BatchTask, MakeBackend
    from harness.inference.predictors.protocol import Provides
    from harness.perturb import Pose

T = TypeVar("T")


class Classifier:
    """A model ready to predict; asked again for the same images and perturbation, it remembers the answer.

    With a `cache` it also finds what earlier runs predicted, provided that all that decides a prediction can be named:
    the model's computation can be traced, and the perturbation is one of this package, under the protocol.
    Batch norms are folded into the convolutions before them, which changes logits by less than 1e-5. The model given
    is left as it is. `backend` is what runs it, or its name in `harness.inference.backends.BACKENDS`: `workers` batches
    at a time, with the same bits for any number; `screen` lets it find clear answers in less than float32 first.
    `provides` says what the answers are.
    """

    rounded = False
    """Rounds images to 8 bits before the model sees them; set before anything is asked."""

    def __init__(
        self,
        model: nn.Module,
        *,
        device: str | torch.device = "cpu",
        workers: int | None = None,
        cache: PredictionCache | None = None,
        screen: bool = True,
        backend: str | MakeBackend = "process",
        provides: Provides = OF_NETWORKS,
    ) -> None:
        keep_freed_buffers()
        self.provides = provides
        self.device = torch.device(device)
        self.workers = side_by_side(self.device, workers or available_cores())
        self.questions = 0
        """Number of times that anything was asked of it: a test that leaves it as it was has asked nothing."""
        self._plain = _laid_out(evaluation_copy(model), self.device)
        self._model = _laid_out(pooled_by_maxima(folded(self._plain)), self.device)
        self._screen, self._made_by = screen, backend
        self._backend = self.backend_for(self._model)
        self._measured_on: LabelledImages | None = None
        self._cache = cache
        self._remembered: dict[Hashable, Any] = {}

    @property
    def plain(self) -> nn.Module:
        """Return the model as it was given, layers under their own names; to take it counts as a question."""
        self.questions += 1
        return self._plain

    @property
    def model(self) -> nn.Module:
        """Return the model as it runs, batch norms folded; to take it counts as a question."""
        self.questions += 1
        return self._model

    def like(self, model: nn.Module) -> Classifier:
        """Return another model ready to predict, run as this one is, with nothing remembered and without cache."""
        other = Classifier(
            model,
            device=self.device,
            workers=self.workers,
            screen=self._screen,
            backend=self._made_by,
            provides=self.provides,
        )
        other.rounded = self.rounded
        if self._measured_on is not None:
            other.measure_precision_on(self._measured_on)
        return other

    def backend_for(self, model: nn.Module, *, workers: int | None = None, screen: bool | None = None) -> Backend:
        """Return a backend of the kind that this model is run by, for a model as it is: neither traced nor folded."""
        return backend_named(self._made_by)(
            model,
            device=self.device,
            workers=workers or self.workers,
            screen=self._screen if screen is None else screen,
        )

    def measure_precision_on(self, images: LabelledImages) -> None:
        """Have it measured on these images which answers are clear before float32; see `Backend`."""
        self._measured_on = images
        self._backend.measure_precision_on(len(images), self.inputs(images), name=images.sha256)

    def predict(
        self, images: LabelledImages, perturbation: Perturbation = IDENTITY, *, keep: bool = True
    ) -> Predictions:
        """Predict every image under the perturbation; not to `keep` it in memory is for what is asked for once.

        Raises `ModelError` when the model raises, returns a non-finite value, or returns anything but one logit per
        class and image.
        """
        self.questions += 1
        if not keep or (transform := remembered_as(perturbation)) is None:
            return self._predictions(images, perturbation)
        key = ("predictions", images.sha256, tuple(images.pixels.shape), transform)
        remembered = self.remembered(key, lambda: self._predictions(images, perturbation))
        if remembered.images is images:
            return remembered
        # Equal pixels may go by other names.
        return Predictions(
            remembered.answers, images, perturbation, exact=remembered.exactly, known=self.provides.known
        )

    def predict_pairs(
        self, images: LabelledImages, positions: np.ndarray, poses: Sequence[Pose], which: np.ndarray
    ) -> np.ndarray:
        """Predict image `positions[i]` in pose `poses[which[i]]` for each of M pairs; returns classes, (M,) int64.

        Runs fastest when equal poses stand together. Raises `ModelError` as `predict` does.
        """
        self.questions += 1
        inputs = Perturbed(images.pixels, positions, self.device, tuple(poses), which, rounded=self.rounded)
        what = f"{len(positions)} images in poses"
        logits = self._backend.logits(len(positions), inputs, classes=len(images.classes), what=what)
        return np.asarray(logits.argmax(axis=1))

    def in_one_batch(self, images: LabelledImages, positions: np.ndarray) -> np.ndarray:
        """Return the logits of these images, (M, classes), of the model as given: one batch, in this order, not padded.

        Raises `ModelError` as `predict` does.
        """
        self.questions += 1
        shape = len(positions), len(images.classes)

        def predict(some: np.ndarray) -> Tensor:
            with torch.inference_mode():
                pixels = self.pixels(images, some).contiguous(memory_format=torch.channels_last)
                return checked(self._plain(pixels), shape, images=len(some))

        with named(f"{len(positions)} images in one batch"):
            (logits,) = in_batches(predict, positions, size=len(positions), workers=1)
        return np.asarray(logits.cpu().numpy())

    @property
    def answered(self) -> tuple[Predictions, ...]:
        """Return what has been predicted so far, or taken from the cache, in the order in which it was asked for."""
        return tuple(answer for answer in self._remembered.values() if isinstance(answer, Predictions))

    @property
    def decides(self) -> Hashable:
        """Return what decides the bits of predictions besides the model and its inputs; see `Backend`."""
        return self._backend.decides

    @cached_property
    def fingerprint(self) -> str | None:
        """Return a hash of the model's whole computation, None for a model that cannot be traced.

        A predictor has the hash of its identity, and None where that does not decide its answers. Of others it is of
        the traced code, the layers and every tensor: equal for the same network in another file, different when the
        code of a network changes though its weights do not.
        """
        if isinstance(self._model, PredictorNetwork):
            return self._model.fingerprint
        if not isinstance(self._model, GraphModule):
            return None
        tensors = {**self._model.state_dict(), **dict(self._model.named_buffers())}
        for node in self._model.graph.nodes:
            if node.op == "get_attr":
                tensors[str(node.target)] = operator.attrgetter(str(node.target))(self._model)
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            return None
        layers = "".join(f"{name} {type(layer)} {_settings(layer)}" for name, layer in self._model.named_modules())
        return hashlib.sha256(f"{self._model.code} {layers} {hash_tensors(tensors)}".encode()).hexdigest()

    def cached(
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
        the code that computes. Values are kept as float32, and not at all under a perturbation from outside of this
        package.
        """
        self.questions += 1
        key = self.cache_key(what, images, perturbation)
        if self._cache is None or key is None:
            return compute()
        values = self._cache.load(key, shape)
        if values is None:
            values = compute()
            self._cache.store(key, values)
        return values

    def cached_text(self, what: object, images: LabelledImages, compute: Callable[[], str]) -> str:
        """Return what `compute` says of these images as they are, from the cache if it is there; see `cached`."""
        key = self.cache_key(what, images, IDENTITY)
        if self._cache is None or key is None:
            return compute()
        text = self._cache.load_text(key)
        if text is None:
            self._cache.store_text(key, text := compute())
        return text

    def cache_key(self, what: object, images: LabelledImages, perturbation: Perturbation) -> str | None:
        """Return the key under which `cached` keeps this, None for what it does not keep."""
        if self._cache is None or self.fingerprint is None or not _is_ours(perturbation):
            return None
        decisive = (
            self.fingerprint,
            images.sha256,
            tuple(images.pixels.shape),
            what,
            perturbation,
            (PROTOCOL, computing_code()),
            *(("rounded",) if self.rounded else ()),
        )
        return hashlib.sha256(repr((*decisive, self._backend.decides)).encode()).hexdigest()

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        count, classes = len(images), len(images.classes)
        what = f"images {tuple(images.pixels.shape)} under {perturbation}"
        inputs = self.inputs(images, perturbation)

        def answers() -> np.ndarray:
            return self._backend.logits(count, inputs, classes=classes, what=what)

        def exact(positions: np.ndarray) -> np.ndarray:
            """Compute all, or those that are wrong: others are not asked for, and not told apart in the cache."""

            def compute() -> np.ndarray:
                return self._backend.exact_logits(len(positions), inputs.only(positions), classes=classes, what=what)

            return cached("logits" if len(positions) == count else "errors", len(positions), compute)

        def cached(name: str, rows: int, compute: Callable[[], np.ndarray]) -> np.ndarray:
            return self.cached(name, images, (rows, classes), compute, perturbation=perturbation)

        screened = self._backend.screens_for(count)
        found = cached("answers", count, answers)
        return Predictions(found, images, perturbation, exact=exact if screened else None, known=self.provides.known)

    def pixels(self, images: LabelledImages, positions: np.ndarray) -> Tensor:
        """Return the images at these positions as the model takes them, (M, C, H, W) float32 on its device."""
        return self.inputs(images)(positions)

    def inputs(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> Perturbed:
        """Return the images under the perturbation, as the model takes them."""
        return Perturbed(images.pixels, np.arange(len(images)), self.device, (perturbation,), rounded=self.rounded)

    def over_batches(self, task: BatchTask, inputs: Perturbed, *, size: int) -> np.ndarray:
        """Return what `task` makes of batches of inputs with the model as it was given, in their order."""
        self.questions += 1
        if isinstance(self._backend, Spreading):
            return self._backend.over_batches(task, self._plain, inputs, size=size)
        return task(self._plain, inputs, self.workers)

    def remembered(self, what: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gave when this was first asked for; `what` must name all that decides it."""
        self.questions += 1
        if what not in self._remembered:
            self._remembered[what] = compute()
        answer: T = self._remembered[what]
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
    """Return whether the code of a perturbation is this package's, and not a user's, which may change."""
    ours = type(perturbation).__module__.startswith("harness.")
    return ours and not (isinstance(perturbation, Corruption) and perturbation.of_user)


def _settings(layer: nn.Module) -> str:
    """Return how a layer was set up; its `extra_repr` alone leaves some out, such as how an upsampling aligns."""
    named = {name: value for name, value in vars(layer).items() if not name.startswith("_") and name != "training"}
    plain = {name: value for name, value in named.items() if isinstance(value, bool | int | float | str | tuple | None)}
    return f"{layer.extra_repr()} {sorted(plain.items())!r}"


def _laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
