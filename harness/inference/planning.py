"""Requests of tests to a model, counted without running it: a classifier without cost, and its ledger."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.inference.classifier import Classifier, remembered_as
from harness.perturb import IDENTITY, Perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from torch import nn

    from harness.data.images import LabelledImages
    from harness.inference.backend import Backend, Inputs
    from harness.inference.predictions import Predictions
    from harness.perturb import Pose


@dataclass
class Asked:
    """Requests under one name.

    `passes` counts calls that a run must compute, and `poses` their inputs, each an image under a perturbation. `maps`
    counts inputs of Grad-CAM, and `cached` inputs with predictions from earlier runs. `images` is the largest number of
    images in one request. `shares` has the names that requested the same predictions before.
    """

    passes: int = 0
    poses: int = 0
    maps: int = 0
    cached: int = 0
    images: int = 0
    shares: set[str] = field(default_factory=set)

    def add(self, *, passes: int = 0, poses: int = 0, maps: int = 0, cached: int = 0, images: int = 0) -> None:
        """Add to the counts; `images` is the number of images in one request."""
        self.passes += passes
        self.poses += poses
        self.maps += maps
        self.cached += cached
        self.images = max(self.images, images)


@dataclass
class Ledger:
    """Counts requests under the name that is current at the first request.

    `uncounted` has the names that took too long to plan.
    """

    asked: dict[str, Asked] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    name: str = ""
    _first: dict[Hashable, str] = field(default_factory=dict)

    @contextmanager
    def under(self, name: str) -> Iterator[None]:
        """Count under this name while the context lasts."""
        before, self.name = self.name, name
        self.asked.setdefault(name, Asked())
        try:
            yield
        finally:
            self.name = before

    @property
    def now(self) -> Asked:
        """Return the counts of the current name."""
        return self.asked.setdefault(self.name, Asked())

    def look(self, key: Hashable) -> None:
        """Note a use of the predictions that `key` identifies."""
        if (first := self._first.setdefault(key, self.name)) != self.name:
            self.now.shares.add(first)


class PlannedClassifier(Classifier):
    """Replaces a classifier in a plan: it counts requests, and returns cached predictions or else correct ones.

    With correct predictions, a search with early exit runs to its end, so its count is an upper bound. A copy by
    `like`, which stands for a mutant, has no cache and is wrong on every image, so the first check catches it. The
    model itself runs only to list its layers.
    """

    def __init__(self, of: Classifier, ledger: Ledger, *, right: bool = True, cached: bool = True) -> None:
        self._of, self._ledger, self._right = of, ledger, right
        self.device, self.workers, self._plain, self._model = of.device, of.workers, of.plain, of.model
        self.questions = 0
        self._screen, self._made_by, self._backend = of._screen, of._made_by, of._backend
        self.provides, self.rounded = of.provides, of.rounded
        self._cache = of._cache if cached else None
        self._remembered: dict[Hashable, Any] = {}

    def like(self, model: nn.Module) -> Classifier:  # noqa: ARG002  The model does not run.
        """Return the replacement of another model, with wrong predictions."""
        return PlannedClassifier(self._of, self._ledger, right=False, cached=False)

    def backend_for(
        self,
        model: nn.Module,  # noqa: ARG002  The model does not run.
        *,
        workers: int | None = None,  # noqa: ARG002
        screen: bool | None = None,  # noqa: ARG002
    ) -> Backend:
        """Return a backend that counts."""
        return _Counting(self._backend, self._ledger)

    @property
    def fingerprint(self) -> str | None:
        """Return the fingerprint of the replaced model."""
        return self._of.fingerprint

    def predict(
        self, images: LabelledImages, perturbation: Perturbation = IDENTITY, *, keep: bool = True
    ) -> Predictions:
        """Return predictions as `Classifier.predict` does, and note the use."""
        if (seen := remembered_as(perturbation)) is not None:
            self._ledger.look((id(self), images.sha256, tuple(images.pixels.shape), seen))
        return super().predict(images, perturbation, keep=keep)

    def predict_pairs(
        self,
        images: LabelledImages,
        positions: np.ndarray,
        poses: Sequence[Pose],  # noqa: ARG002
        which: np.ndarray,  # noqa: ARG002
    ) -> np.ndarray:
        """Count the pairs, and return classes as `Classifier.predict_pairs` does."""
        self._count(len(positions), images)
        return np.asarray(self._classes(images)[positions])

    def in_one_batch(self, images: LabelledImages, positions: np.ndarray) -> np.ndarray:
        """Count the images, and return logits as `Classifier.in_one_batch` does."""
        self._count(len(positions), images)
        return np.asarray(self._logits(images)[positions])

    def cached(
        self,
        what: object,
        images: LabelledImages,
        shape: tuple[int, ...],
        compute: Callable[[], np.ndarray],
        *,
        perturbation: Perturbation = IDENTITY,
    ) -> np.ndarray:
        """Return the cached values; without any, count the request and return stand-ins."""
        key = self.cache_key(what, images, perturbation)
        if key is not None and self._cache is not None and (values := self._cache.load(key, shape)) is not None:
            self._ledger.now.add(cached=len(images), images=len(images))
            return values
        match what:
            case "answers" | "logits" | "errors":
                self._count(shape[0], images)
                return self._logits(images)[: shape[0]]
            case ("attention", *_):
                self._ledger.now.add(maps=len(images), images=len(images))
                maps = np.ones((len(images), shape[1] - len(images.classes)), dtype=np.float32)
                return np.concatenate([self._logits(images), maps], axis=1)
            case _:
                return compute()

    def _count(self, inputs: int, images: LabelledImages) -> None:
        self._ledger.now.add(passes=1, poses=inputs, images=len(images))

    def _classes(self, images: LabelledImages) -> np.ndarray:
        labels: np.ndarray = images.labels.numpy()
        return labels if self._right else (labels + 1) % len(images.classes)

    def _logits(self, images: LabelledImages) -> np.ndarray:
        return np.asarray(np.eye(len(images.classes), dtype=np.float32)[self._classes(images)] * np.float32(10))


class _Counting:
    """The backend of a plan: it counts inputs, and predicts the first class for all."""

    def __init__(self, of: Backend, ledger: Ledger) -> None:
        self._of, self._ledger = of, ledger

    @property
    def decides(self) -> Hashable:
        return self._of.decides

    def measure_precision_on(self, count: int, inputs: Inputs, *, name: str) -> None:
        """Measure nothing."""

    def screens_for(self, count: int) -> bool:
        return self._of.screens_for(count)

    def logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:
        return self.exact_logits(count, inputs, classes=classes, what=what)

    def exact_logits(self, count: int, inputs: Inputs, *, classes: int, what: str) -> np.ndarray:  # noqa: ARG002
        self._ledger.now.add(passes=1, poses=count, images=count)
        return np.eye(1, classes, dtype=np.float32).repeat(count, axis=0)
