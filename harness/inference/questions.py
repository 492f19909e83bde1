"""The images that tests request predictions for, under each perturbation, found without a model."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import NotApplicableError
from harness.data.rows import parts_of
from harness.inference.backend import Perturbed
from harness.inference.classifier import Classifier, remembered_as
from harness.inference.predictions import Predictions
from harness.inference.predictors import Provides
from harness.inference.role import RoleModel
from harness.perturb import IDENTITY, Perturbation

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence
    from pathlib import Path

    from torch import nn

    from harness.data.images import LabelledImages
    from harness.perturb import Pose


@dataclass
class Question:
    """A perturbation and its requested images, as numbers in `Questions`, by the name of the test."""

    perturbation: Perturbation
    by_name: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def numbers(self) -> np.ndarray:
        """Return the numbers of the images, (N,) int64, sorted and unique."""
        return np.unique(np.concatenate([part for parts in self.by_name.values() for part in parts]))


class Questions:
    """All requests of tests to a model: images with different pixels, each under some perturbations."""

    def __init__(self, *, rounded: bool = False) -> None:
        """Start without requests; with `rounded`, models see images rounded to 8 bits."""
        self.rounded = rounded
        self.asked: dict[Hashable, Question] = {}
        self.name = ""
        self._sets: list[LabelledImages] = []
        self._starts: list[int] = []
        self._numbers: dict[bytes, int] = {}
        self._of_set: dict[LabelledImages, np.ndarray] = {}
        self._at: list[tuple[int, int]] = []
        self._whole: set[Hashable] = set()

    @contextmanager
    def under(self, name: str) -> Iterator[None]:
        """Use this name for requests while the context lasts."""
        before, self.name = self.name, name
        try:
            yield
        finally:
            self.name = before

    def ask(self, images: LabelledImages, perturbation: Perturbation, positions: np.ndarray | None = None) -> None:
        """Note a request for images under a perturbation, at these positions, (M,) int64, or for all images."""
        key: Hashable = remembered_as(perturbation)
        if key is None:  # Only its identity distinguishes it from others.
            key = id(perturbation)
        if positions is None:
            if (whole := (self.name, key, images)) in self._whole:
                return
            self._whole.add(whole)
        question = self.asked.setdefault(key, Question(perturbation))
        numbers = self._numbered(images)
        question.by_name.setdefault(self.name, []).append(numbers if positions is None else numbers[positions])

    def __len__(self) -> int:
        return sum(len(question.numbers) for question in self.asked.values())

    def identity(self) -> str:
        """Return a hash of all images and perturbations, in their order."""
        digest = hashlib.sha256()
        known = list(self._numbers)
        for question in self.asked.values():
            digest.update(repr(question.perturbation).encode())
            for number in question.numbers:
                digest.update(known[number])
        return digest.hexdigest()

    def pixels(self, question: Question, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images under the perturbation, (M, C, H, W) float32, and their positions in the split.

        The numbers must be of one set of images; see `parts`.
        """
        which, positions = zip(*(self._at[number] for number in numbers), strict=True)
        images = self._sets[which[0]]
        at = np.array(positions)
        under = (question.perturbation,)
        inputs = Perturbed(images.pixels, at, torch.device("cpu"), under, rounded=self.rounded)
        return inputs(np.arange(len(at))).numpy(), images.positions.numpy()[at]

    def parts(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the numbers, (N,) int64 in ascending order, by set of images."""
        for start, end in zip(self._starts, [*self._starts[1:], len(self._at)], strict=True):
            part = numbers[(numbers >= start) & (numbers < end)]
            if len(part):
                yield part

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """Return the shapes of the images, each (C, H, W)."""
        return {tuple(images.pixels.shape[1:]) for images in self._sets}

    def _numbered(self, images: LabelledImages) -> np.ndarray:
        """Return the number of each image, (N,) int64; images with equal pixels share one."""
        if (known := self._of_set.get(images)) is not None:
            return known
        numbers = np.empty(len(images), dtype=np.int64)
        which, start = len(self._sets), len(self._at)
        size = int(np.prod(images.pixels.shape[1:]))
        for part in parts_of(len(images), size):
            for position, pixels in enumerate(images.pixels[part].numpy(), start=part.start):
                name = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
                number = self._numbers.setdefault(name, len(self._at))
                if number == len(self._at):
                    self._at.append((which, position))
                numbers[position] = number
        self._sets.append(images)
        self._starts.append(start)
        self._of_set[images] = numbers
        return numbers


class AskedClassifier(Classifier):
    """Replaces any classifier: it notes requests and returns the true classes.

    A search therefore runs to its end.
    """

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self.provides = Provides("probabilities", live=False)

    @property
    def plain(self) -> nn.Module:
        """Raise `NotApplicableError`: there is no network."""
        raise NotApplicableError("a model elsewhere has no network here")

    def predict(
        self,
        images: LabelledImages,
        perturbation: Perturbation = IDENTITY,
        *,
        keep: bool = True,  # noqa: ARG002  Nothing is computed.
    ) -> Predictions:
        """Note the images under the perturbation."""
        self._questions.ask(images, perturbation)
        scores = np.eye(len(images.classes), dtype=np.float32)[images.labels.numpy()] * np.float32(10)
        return Predictions(scores, images, perturbation)

    def predict_pairs(
        self, images: LabelledImages, positions: np.ndarray, poses: Sequence[Pose], which: np.ndarray
    ) -> np.ndarray:
        """Note each image in its pose."""
        for number in np.unique(which):
            self._questions.ask(images, poses[number], positions[which == number])
        return np.asarray(images.labels.numpy()[positions])

    def cached(
        self,
        what: object,  # noqa: ARG002
        images: LabelledImages,  # noqa: ARG002
        shape: tuple[int, ...],  # noqa: ARG002
        compute: Callable[[], np.ndarray],
        *,
        perturbation: Perturbation = IDENTITY,  # noqa: ARG002
    ) -> np.ndarray:
        """Return the result of `compute`; nothing is cached."""
        return compute()


def asked_model(role: str, path: Path, questions: Questions) -> RoleModel:
    """Return the replacement of a role's model."""
    return RoleModel(role, path, role, role, "recorded", None, AskedClassifier(questions))
