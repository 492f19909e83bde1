"""The ledger of a plan or an export: what tests ask models for, counted and noted without running them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.inference.classifier import remembered_as

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import numpy as np

    from harness.data.images import LabelledImages
    from harness.perturb import Perturbation


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

    def add(self, *, images: int = 0, **counts: int) -> None:
        """Add to the counts; `images` is the number of images in one request."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)
        self.images = max(self.images, images)


@dataclass
class Question:
    """A perturbation, and by name the images requested under it, each with positions (M,) int64, None for all."""

    perturbation: Perturbation
    by_name: dict[str, list[tuple[LabelledImages, np.ndarray | None]]] = field(default_factory=dict)


@dataclass
class Ledger:
    """Requests, under the name that is current: what they cost, and the images under each perturbation.

    Work that two names share counts for the first. `uncounted` has the names that took too long to plan.
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
        self, who: object, images: LabelledImages, perturbation: Perturbation, positions: np.ndarray | None = None
    ) -> None:
        """Note a use of predictions: of all images, or at these positions."""
        self.sets.setdefault(images)
        seen = remembered_as(perturbation)
        # An unhashable perturbation differs from all others.
        question = self.questions.setdefault(seen or id(perturbation), Question(perturbation))
        noted = question.by_name.setdefault(self.name, [])
        if positions is not None or not any(known is images and part is None for known, part in noted):
            noted.append((images, positions))
        if seen is not None and positions is None:
            key = (id(who), images.sha256, tuple(images.pixels.shape), seen)
            if (first := self._first.setdefault(key, self.name)) != self.name:
                self.now.shares.add(first)
