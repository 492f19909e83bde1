"""Classifier: a model that a backend runs, with predictions cached in memory and on disk."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from torch import nn

from harness.base.errors import NotApplicableError
from harness.inference.engine import Engine, Logits, Perturbed, named
from harness.inference.platforms import computing_code
from harness.inference.predictions import Predictions
from harness.inference.predictors.network import Network, PredictorModel
from harness.inference.predictors.protocol import NO_CLASSES
from harness.networks.process import keep_freed_buffers
from harness.perturb import IDENTITY, PROTOCOL, Perturbation
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import torch

    from harness.base.cache import Store
    from harness.data.images import LabelledImages
    from harness.inference.engine import MakeBackend
    from harness.perturb import Pose

T = TypeVar("T")


class Classifier:
    """A model that predicts.

    It keeps predictions in memory and reuses them for equal images and perturbations.

    With a `cache`, it also reuses predictions of earlier runs. For this, the model's computation
    must be traceable, and the perturbation must be one of this package. `backend` makes what runs
    it: an `Engine` of this process, or a cluster. `workers` batches run in parallel, with the same
    bits for any number. With `screen`, clear predictions may be found in lower precision than
    float32. The `device` is that of a plain module.
    """

    rounded = False
    """Rounds images to 8 bits before the model sees them; set before the first prediction."""
    opening: Mapping[str, Any] | None = None
    """Arguments of `open_model` for another process.

    None for a model without code of the user's.
    """

    def __init__(
        self,
        model: nn.Module | Network | PredictorModel,
        *,
        device: str | torch.device = "cpu",
        workers: int | None = None,
        cache: Store | None = None,
        screen: bool = True,
        backend: MakeBackend = Engine,
    ) -> None:
        keep_freed_buffers()
        self.predictor = Network(model, device=device) if isinstance(model, nn.Module) else model
        """The network, or the predictor with the classes of the data."""
        self.provides, self.device = self.predictor.provides, self.predictor.device
        self.workers = self.predictor.workers(workers)
        self._screen, self._made_by = screen, backend
        self.backend = self.backend_for(self.predictor.fast)
        """Runs the model with folded batch norms."""
        self._measured_on: LabelledImages | None = None
        self._cache = cache
        self._remembered: dict[Hashable, Any] = {}

    @property
    def plain(self) -> Any:
        """Return the given model, a network with layers under their own names or a predictor."""
        return self.predictor.plain

    @property
    def model(self) -> Any:
        """Return the model with folded batch norms, which the backend runs."""
        return self.predictor.fast

    @property
    def fingerprint(self) -> str | None:
        """Return a hash of the model's whole computation.

        None for one that is not known, see `Network`.
        """
        return self.predictor.fingerprint

    def like(self, model: Any) -> Classifier:
        """Return a classifier of another model with the same settings.

        It has no cached predictions and no cache.
        """
        other = Classifier(
            self.predictor.like(model),
            workers=self.workers,
            screen=self._screen,
            backend=self._made_by,
        )
        other.rounded = self.rounded
        if self._measured_on is not None:
            other.measure_precision_on(self._measured_on)
        return other

    def backend_for(self, model: Any, *, workers: int | None = None) -> Engine:
        """Return a backend of this classifier's kind for another model.

        That model is neither traced nor folded.
        """
        return self.predictor.engine(
            model, self._made_by, workers=workers or self.workers, screen=self._screen
        )

    def measure_precision_on(self, images: LabelledImages) -> None:
        """Register the images for measuring the error of low precision; see `Screen`."""
        self._measured_on = images
        self.backend.measure_precision_on(self.inputs(images), name=images.sha256)

    def predict(
        self, images: LabelledImages, perturbation: Perturbation = IDENTITY, *, keep: bool = True
    ) -> Predictions:
        """Predict every image under the perturbation.

        `keep=False` saves memory for predictions that are used once. Raises `ModelError` if the
        model raises, returns a non-finite value, or does not return one logit per class and image.
        """
        perturbation = within_border(perturbation, images.domain.border)
        if not keep:
            return self._predictions(images, perturbation)
        found = self.remembered_of("predictions", images, perturbation, self._predictions)
        # Another data set object may hold equal pixels.
        return (
            found if found.images is images else replace(found, images=images, exact=found.exactly)
        )

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        logits = partial(self._answers, images, perturbation)
        exact = partial(logits, exact=True) if self.backend.screens_for(len(images)) else None
        return Predictions(
            logits(np.arange(len(images))),
            images,
            perturbation,
            exact=exact,
            known=self.provides.known,
            scored=self.provides.scored,
        )

    def _answers(
        self,
        images: LabelledImages,
        perturbation: Perturbation,
        at: np.ndarray,
        *,
        exact: bool = False,
    ) -> np.ndarray:
        """Return the logits at some positions.

        Cached ones, or else from the backend, `exact` or perhaps screened.
        """
        # The cache key knows all positions, or the wrong predictions; see `Predictions.exactly`.
        name = ("logits" if len(at) == len(images) else "errors") if exact else "answers"
        inputs, classes = self.inputs(images, perturbation).only(at), len(images.classes)
        compute = partial(self.backend.logits, inputs, classes=classes, exact=exact)
        return self.cached(name, images, (len(at), classes), compute, perturbation=perturbation)

    def predict_pairs(
        self,
        images: LabelledImages,
        positions: np.ndarray,
        poses: Sequence[Pose],
        which: np.ndarray,
    ) -> np.ndarray:
        """Predict image `positions[i]` in pose `poses[which[i]]` for each of M pairs.

        Returns classes, (M,) int64.

        Groups of equal poses run fastest. Raises `ModelError` as `predict` does, and
        `NotApplicableError` for scores.
        """
        if self.provides.scored:
            raise NotApplicableError(NO_CLASSES)
        seen = tuple(within_border(pose, images.domain.border) for pose in poses)
        inputs = Perturbed(images.pixels, positions, self.device, seen, which, rounded=self.rounded)
        return np.asarray(self.backend.logits(inputs, classes=len(images.classes)).argmax(axis=1))

    def asked_anew(
        self, images: LabelledImages, positions: np.ndarray, *, size: int | None
    ) -> np.ndarray:
        """Return the logits of these images, (M, classes), by the given model.

        It is neither traced nor folded. Batches of `size` are not padded; with None, they are those
        of a run. Raises `ModelError` as `predict` does.
        """
        inputs, classes = self.inputs(images).only(positions), len(images.classes)
        if size is None:
            return self.backend_for(self.plain, workers=1).logits(
                inputs, classes=classes, exact=True
            )
        with named(inputs):
            return Logits(classes, fills=False)(self.plain, inputs, size, 1)

    @property
    def answered(self) -> tuple[Predictions, ...]:
        """Return all predictions so far, computed or cached, in the order of the requests."""
        return tuple(
            answer for answer in self._remembered.values() if isinstance(answer, Predictions)
        )

    def cached(
        self,
        what: object,
        images: LabelledImages,
        shape: tuple[int, ...],
        compute: Callable[[], np.ndarray],
        *,
        perturbation: Perturbation = IDENTITY,
    ) -> np.ndarray:
        """Return the result of `compute` for these images, of this shape.

        It comes from the cache if possible. The `repr` of `what` must name all that determines the
        values besides the model, the images, the perturbation and this package's code. Values are
        stored as float32, but not for a perturbation from outside of this package.
        """
        key = self.cache_key(what, images, perturbation)
        if self._cache is None or key is None:
            return compute()
        if (values := self._cache.load(key, shape)) is None:
            self._cache.store(key, values := compute())
        return values

    def cache_key(
        self, what: object, images: LabelledImages, perturbation: Perturbation
    ) -> str | None:
        """Return the cache key of a result, None for one that `cached` does not store."""
        if self._cache is None or self.fingerprint is None or not _is_ours(perturbation):
            return None
        inputs = (
            images.sha256,
            tuple(images.pixels.shape),
            images.domain.border,
            perturbation,
            self.rounded,
        )
        decisive = self.fingerprint, inputs, what, PROTOCOL, computing_code(), self.backend.decides
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    def inputs(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> Perturbed:
        """Return the model's inputs for the images under the perturbation."""
        seen = within_border(perturbation, images.domain.border)
        return Perturbed(
            images.pixels, np.arange(len(images)), self.device, (seen,), rounded=self.rounded
        )

    def remembered(self, what: Hashable, compute: Callable[[], T]) -> T:
        """Return the result of the first call of `compute` for `what`.

        `what` must name all that determines the result.
        """
        if what not in self._remembered:
            self._remembered[what] = compute()
        answer: T = self._remembered[what]
        return answer

    def remembered_of(
        self,
        what: Hashable,
        images: LabelledImages,
        perturbation: Perturbation,
        compute: Callable[[LabelledImages, Perturbation], T],
    ) -> T:
        """Return the result of the first call of `compute` for equal images and perturbation."""
        if (transform := remembered_as(perturbation)) is None:
            return compute(images, perturbation)
        key = (what, images.sha256, tuple(images.pixels.shape), images.domain.border, transform)
        return self.remembered(key, lambda: compute(images, perturbation))


def remembered_as(perturbation: Perturbation) -> object:
    """Return a key of the perturbation; None for an unhashable one, with results that are not kept.

    The key of a user's perturbation is the object itself with its `repr`. The `repr` alone is not
    enough: classes in two files may share one, and that of a large array is shortened.
    """
    if _is_ours(perturbation):
        return repr(perturbation)
    try:
        hash(perturbation)
    except TypeError:
        return None
    return perturbation, repr(perturbation)


def _is_ours(perturbation: Perturbation) -> bool:
    """Return whether a perturbation is this package's code, and not a user's, which may change."""
    ours = type(perturbation).__module__.startswith("harness.")
    return ours and not getattr(perturbation, "of_user", False)
