"""Stand-ins for a model, and the ledger of the requests that they get.

They answer from the labels without a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.base.errors import NotApplicableError
from harness.inference.classifier import Classifier, remembered_as
from harness.inference.predictions import Predictions
from harness.perturb import IDENTITY
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from harness.data.images import LabelledImages
    from harness.inference.predictors.protocol import Provides
    from harness.inference.role import RoleModel
    from harness.perturb import Perturbation, Pose


@dataclass
class Asked:
    """Requests under one name.

    `passes` counts calls that a run must compute, and `poses` their inputs, each an image under a
    perturbation. `maps` counts inputs of Grad-CAM, and `cached` inputs with predictions from
    earlier runs. `images` is the largest number of images in one request. `shares` has the names
    that requested the same predictions before.
    """

    passes: int = 0
    poses: int = 0
    maps: int = 0
    cached: int = 0
    images: int = 0
    shares: set[str] = field(default_factory=set)

    def add(self, *, images: int = 0, **counts: int) -> None:
        """Add to the counts; `images` is the number of images in one request."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)
        self.images = max(self.images, images)


@dataclass
class Question:
    """A perturbation, and by name the images requested under it, each with positions (M,) int64.

    None for all.
    """

    perturbation: Perturbation
    by_name: dict[str, list[tuple[LabelledImages, np.ndarray | None]]] = field(default_factory=dict)


@dataclass
class Ledger:
    """Requests, under the name that is current.

    Their cost, and the images under each perturbation.

    Work that two names share counts for the first. `uncounted` has the names that took too long to
    plan.
    """

    asked: dict[str, Asked] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    name: str = ""
    questions: dict[Hashable, Question] = field(default_factory=dict)
    sets: dict[LabelledImages, None] = field(default_factory=dict)
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

    def look(
        self,
        who: object,
        images: LabelledImages,
        perturbation: Perturbation,
        positions: np.ndarray | None = None,
    ) -> None:
        """Note a use of predictions: of all images, or at these positions."""
        self.sets.setdefault(images)
        seen = remembered_as(perturbation)
        # An unhashable perturbation differs from all others.
        question = self.questions.setdefault(seen or id(perturbation), Question(perturbation))
        noted = question.by_name.setdefault(self.name, [])
        if positions is not None or not any(
            known is images and part is None for known, part in noted
        ):
            noted.append((images, positions))
        if seen is not None and positions is None:
            key = (id(who), images.sha256, tuple(images.pixels.shape), seen)
            if (first := self._first.setdefault(key, self.name)) != self.name:
                self.now.shares.add(first)


CERTAIN = 50.0
"""The logit of the predicted class of a stand-in that is certain; the others are 0."""


Answer = Callable[[np.ndarray, int, str], np.ndarray]
"""Makes the logits of a stand-in, (N, classes), for labels (N,), so many classes, and what is asked
about, as text.
"""


def wrong_by(step: int | np.ndarray) -> Answer:
    """Return what takes each class for another, so many classes on, and is certain.

    (N,) steps are of N images.
    """
    return lambda labels, classes, _: _certain((labels + step) % classes, classes)


right = wrong_by(0)
"""Logits that are certain, and right."""


def wrong_by_swapping(first: int, second: int) -> Answer:
    """Return a stand-in that is certain, and wrong on every image.

    It takes either class of a pair for the other, and every other class for the next.
    """

    def answer(labels: np.ndarray, classes: int, _: str) -> np.ndarray:
        taken = (np.arange(classes) + 1) % classes
        taken[[first, second]] = second, first
        return _certain(taken[labels], classes)

    return answer


def mostly_right(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:
    """Return logits that are certain, and wrong on about one of ten images."""
    misses = _draws(asked, "mostly right").random(len(labels)) < 0.1  # noqa: PLR2004
    return _certain((labels + misses) % classes, classes)


def at_random(seed: int) -> Answer:
    """Return a stand-in that draws each class and its confidence for every request."""

    def answer(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:
        draws = _draws(asked, f"at random {seed}")
        scale = draws.uniform(0.5, 10) * draws.uniform(0.5, 2, size=(len(labels), 1))
        return np.asarray(
            _certain(draws.integers(0, classes, len(labels)), classes) * scale / CERTAIN
        )

    return answer


def _certain(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.asarray(CERTAIN * np.eye(classes, dtype=np.float32)[predicted])


def _draws(*about: str) -> np.random.Generator:
    digest = hashlib.sha256(repr(about).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _of_counted(name: str) -> Any:
    """Return the property of this name of the model that a plan counts for.

    Raises:
        NotApplicableError: Without one.
    """
    return property(lambda stand_in: getattr(stand_in._counted, name))


class StandIn(Classifier):
    """Answers from the labels of the images.

    It has no layers, costs no pass of a network, and is asked in a ledger.

    `of` is the model that a plan counts for. Its cached predictions come from the cache, and its
    network runs only to list its layers. Correct answers have a search with early exit run to its
    end, so its count is an upper bound. A copy by `like`, in place of a mutant, has no cache and is
    wrong on every image, so the first check catches it.
    """

    predictor, plain, model, fingerprint = map(
        _of_counted, ("predictor", "plain", "model", "fingerprint")
    )

    def __init__(
        self,
        provides: Provides,
        answer: Answer = right,
        *,
        ledger: Ledger | None = None,
        of: Classifier | None = None,
        cached: bool = True,
    ) -> None:
        self.provides, self._answer, self._ledger, self._of = provides, answer, ledger, of
        self._remembered, self._measured_on = {}, None
        self.device, self.workers, self._cache = torch.device("cpu"), 1, None
        if of is not None:
            self.device, self.workers, self.backend = of.device, of.workers, of.backend
            self.rounded, self._cache = of.rounded, of._cache if cached else None

    @property
    def _counted(self) -> Classifier:
        if self._of is None:
            raise NotApplicableError("a stand-in for the candidate has no network")
        return self._of

    def like(self, model: object) -> Classifier:  # noqa: ARG002  The model does not run.
        """Return the stand-in of another model, with wrong predictions."""
        return StandIn(self.provides, wrong_by(1), ledger=self._ledger, of=self._of, cached=False)

    def predict(
        self, images: LabelledImages, perturbation: Perturbation = IDENTITY, *, keep: bool = True
    ) -> Predictions:
        """Return predictions as `Classifier.predict` does, and note the use.

        Only a plan's are kept.
        """
        perturbation = within_border(perturbation, images.domain.border)
        if self._ledger is not None:
            self._ledger.look(self, images, perturbation)
        return super().predict(images, perturbation, keep=keep and self._of is not None)

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        if self._of is not None:
            return super()._predictions(images, perturbation)
        return Predictions(
            self._logits(images, perturbation), images, perturbation, known=self.provides.known
        )

    def predict_pairs(
        self,
        images: LabelledImages,
        positions: np.ndarray,
        poses: Sequence[Pose],
        which: np.ndarray,
    ) -> np.ndarray:
        """Return the classes for image `positions[i]` in pose `poses[which[i]]`, like `predict`."""
        self._count(len(positions), images)
        predicted = np.empty(len(positions), dtype=np.int64)
        for number in np.unique(which):
            chosen = which == number
            pose = within_border(poses[number], images.domain.border)
            if self._ledger is not None:
                self._ledger.look(self, images, pose, positions[chosen])
            predicted[chosen] = self._logits(images, pose, positions[chosen]).argmax(axis=1)
        return predicted

    def cached(
        self,
        what: object,
        images: LabelledImages,
        shape: tuple[int, ...],
        compute: Callable[[], np.ndarray],
        *,
        perturbation: Perturbation = IDENTITY,
    ) -> np.ndarray:
        """Return the cached values; without any, a plan counts the request and answers it."""
        if self._of is None or self._ledger is None:
            return compute()
        key = self.cache_key(what, images, perturbation)
        if (
            key is not None
            and self._cache is not None
            and (values := self._cache.load(key, shape)) is not None
        ):
            self._ledger.now.add(cached=len(images), images=len(images))
            return values
        match what:
            case "answers" | "logits" | "errors":
                self._count(shape[0], images)
                return self._logits(images, perturbation)[: shape[0]]
            case ("attention", *_):
                self._ledger.now.add(maps=len(images), images=len(images))
                maps = np.ones((len(images), shape[1] - len(images.classes)), dtype=np.float32)
                return np.concatenate([self._logits(images, perturbation), maps], axis=1)
            case ("pass", *_):  # Of a feature, over all images.
                self._count(len(images), images)
                return np.ones(shape, dtype=np.float32)
            case _:
                return compute()

    def asked_anew(
        self, images: LabelledImages, positions: np.ndarray, *, size: int | None
    ) -> np.ndarray:
        """Return logits as `Classifier.asked_anew` does; raises as `plain`."""
        assert self._counted
        self._count(len(positions), images, passes=-(-len(positions) // (size or len(positions))))
        return self._logits(images, IDENTITY, positions)

    def _count(self, inputs: int, images: LabelledImages, *, passes: int = 1) -> None:
        if self._ledger is not None:
            self._ledger.now.add(passes=passes, poses=inputs, images=len(images))

    def _logits(
        self,
        images: LabelledImages,
        perturbation: Perturbation,
        positions: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return logits of all images, or of those at these positions.

        The same, though others were drawn with them.
        """
        asked = f"{images.sha256} {tuple(images.pixels.shape)} {perturbation!r}"
        labels, classes = images.labels.numpy(), len(images.classes)
        if (
            self._ledger is not None and positions is not None
        ):  # A class decides alone, and images may be many.
            labels, positions = labels[positions], None
        answer = self._answer(labels, classes, asked).astype(np.float32)
        return answer if positions is None else answer[positions]


def standing_in(model: RoleModel, answer: Answer) -> RoleModel:
    """Return a stand-in in the role of a model, which is no network of any other role."""
    classifier = StandIn(replace(model.provides, layers=False, live=True), answer)
    return replace(model, model_sha256=f"stand-in of {model.role}", classifier=classifier)


def counting(model: RoleModel, ledger: Ledger) -> RoleModel:
    """Return the stand-in of a plan in place of a model; it counts, and finds what is cached."""
    return replace(model, classifier=StandIn(model.provides, ledger=ledger, of=model.classifier))
