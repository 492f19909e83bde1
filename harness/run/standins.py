"""Stand-ins for a model: they know the labels, and answer right, wrong or at random, without a network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from harness.base.errors import NotApplicableError
from harness.inference import Classifier, Predictions, RoleModel

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch import nn

    from harness.data.images import LabelledImages
    from harness.inference.backend import Perturbed
    from harness.perturb import Perturbation, Pose

CERTAIN = 50.0
"""The logit of the predicted class of a stand-in that is certain; the others are 0."""


class Answer(Protocol):
    """Makes the logits of a stand-in."""

    def __call__(self, labels: np.ndarray, classes: int, asked: str) -> np.ndarray:
        """Return logits, (N, classes), for labels (N,); `asked` names the images and the perturbation."""


def right(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:  # noqa: ARG001
    """Return logits that are certain, and right."""
    return _certain(labels, classes)


def wrong_by(step: int) -> Answer:
    """Return what takes each class for another, so many classes on, and is certain."""
    return lambda labels, classes, asked: _certain((labels + step) % classes, classes)  # noqa: ARG005


def wrong_by_swapping(first: int, second: int) -> Answer:
    """Return what takes either class of a pair for the other, and every other class for the next, and is certain."""

    def answer(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:  # noqa: ARG001
        taken = (np.arange(classes) + 1) % classes
        taken[[first, second]] = second, first
        return _certain(taken[labels], classes)

    return answer


def wrong_among(chosen: np.ndarray) -> Answer:
    """Return what is certain, wrong on the images chosen, (N,) bool, and right on the others of these N."""
    return lambda labels, classes, asked: _certain((labels + chosen) % classes, classes)  # noqa: ARG005


def mostly_right(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:
    """Return logits that are certain, and wrong on about one of ten images."""
    misses = _draws(asked, "mostly right").random(len(labels)) < 0.1  # noqa: PLR2004
    return _certain((labels + misses) % classes, classes)


def at_random(seed: int) -> Answer:
    """Return what draws each class, and how certain it is, anew for all images and perturbations."""

    def answer(labels: np.ndarray, classes: int, asked: str) -> np.ndarray:
        draws = _draws(asked, f"at random {seed}")
        scale = draws.uniform(0.5, 10) * draws.uniform(0.5, 2, size=(len(labels), 1))
        return np.asarray(_certain(draws.integers(0, classes, len(labels)), classes) * scale / CERTAIN)

    return answer


def _certain(predicted: np.ndarray, classes: int) -> np.ndarray:
    return np.asarray(CERTAIN * np.eye(classes, dtype=np.float32)[predicted])


def _draws(*about: str) -> np.random.Generator:
    digest = hashlib.sha256(repr(about).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def standing_in(model: RoleModel, answer: Answer) -> RoleModel:
    """Return a stand-in in the role of a model, which is no network of any other role."""
    return replace(model, model_sha256=f"stand-in of {model.role}", classifier=StandIn(model.classifier, answer))


class StandIn(Classifier):
    """Answers from the labels of the images that it is asked about; it has no layers and costs no pass of a network."""

    def __init__(self, of: Classifier, answer: Answer) -> None:
        self._of, self._answer = of, answer
        self.device, self.workers, self.questions = of.device, of.workers, 0
        self.provides = replace(of.provides, layers=False, live=True)
        self._cache, self._remembered, self._measured_on = None, {}, None

    @property
    def plain(self) -> nn.Module:
        """Raise `NotApplicableError`: there is no network."""
        return self._without_network()

    @property
    def model(self) -> nn.Module:
        """Raise `NotApplicableError`: there is no network."""
        return self._without_network()

    @property
    def fingerprint(self) -> str | None:
        """Return None: nothing is cached."""
        return None

    @property
    def decides(self) -> Hashable:
        """Return that labels decide."""
        return "labels"

    def predict_pairs(
        self, images: LabelledImages, positions: np.ndarray, poses: Sequence[Pose], which: np.ndarray
    ) -> np.ndarray:
        """Return the classes for image `positions[i]` in pose `poses[which[i]]`, as `predict` does."""
        predicted = np.empty(len(positions), dtype=np.int64)
        for number in np.unique(which):
            chosen = which == number
            predicted[chosen] = self._logits(images, poses[number]).argmax(axis=1)[positions[chosen]]
        return predicted

    def _predictions(self, images: LabelledImages, perturbation: Perturbation) -> Predictions:
        return Predictions(self._logits(images, perturbation), images, perturbation, known=self.provides.known)

    def _logits(self, images: LabelledImages, perturbation: Perturbation) -> np.ndarray:
        asked = f"{images.sha256} {tuple(images.pixels.shape)} {perturbation!r}"
        answer = self._answer(images.labels.numpy(), len(images.classes), asked)
        return answer.astype(np.float32)

    def over_batches(self, task: Any, inputs: Perturbed, *, size: int) -> np.ndarray:  # noqa: ARG002
        """Raise `NotApplicableError`: there is no network."""
        return self._without_network()

    def in_one_batch(self, images: LabelledImages, positions: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """Raise `NotApplicableError`: there is no network."""
        return self._without_network()

    def _without_network(self) -> NoReturn:
        raise NotApplicableError("a stand-in for the candidate has no network")
