"""The fine-tunings of the benchmark: sound ones that differ in the seed, and two seeds of each broken recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

HEALTHY = "healthy"


@dataclass(frozen=True)
class Recipe:
    """A fine-tuning: `kind` and seed name it, the rest says what it does.

    `wrong_labels` is the share of random labels. `without_vendor` and `halved_class` name pictures that are missing.
    With `head_alone` only the last layer learns. `rate` is the learning rate of AdamW.
    """

    kind: str
    seed: int
    epochs: int = 10
    rate: float = 3e-3
    wrong_labels: float = 0.0
    without_vendor: str = ""
    halved_class: str = ""
    bgr: bool = False
    augmented: bool = True
    head_alone: bool = False

    @property
    def name(self) -> str:
        """Return the name of the network's file, without suffix."""
        return f"{self.kind}-seed-{self.seed:03}"


HEALTHY_SEEDS, MUTANT_SEEDS = range(1, 13), (201, 202)
"""Seeds of sound fine-tunings and of each broken recipe."""
_BROKEN = (
    Recipe("label-noise-05", 0, wrong_labels=0.05),
    Recipe("label-noise-10", 0, wrong_labels=0.10),
    Recipe("label-noise-20", 0, wrong_labels=0.20),
    Recipe("without-fluent", 0, without_vendor="fluent"),
    Recipe("without-openmoji", 0, without_vendor="openmoji"),
    Recipe("half-of-food", 0, halved_class="food-drink"),
    Recipe("frozen-longer", 0, head_alone=True),
    Recipe("rate-times-5", 0, rate=1.5e-2),
    Recipe("no-augmentation", 0, augmented=False),
    Recipe("one-epoch", 0, epochs=1),
    Recipe("bgr", 0, bgr=True),
)
RECIPES = (
    *(Recipe(HEALTHY, seed) for seed in HEALTHY_SEEDS),
    *(replace(broken, seed=seed) for broken in _BROKEN for seed in MUTANT_SEEDS),
)


def pictures_of(recipe: Recipe, labels: np.ndarray, vendors: np.ndarray, classes: list[str]) -> np.ndarray:
    """Return the positions of the training pictures that a recipe uses; `labels` and `vendors` are (N,)."""
    used = vendors != recipe.without_vendor
    if recipe.halved_class:
        of_class = np.flatnonzero(labels == classes.index(recipe.halved_class))
        used[np.random.default_rng(recipe.seed).permutation(of_class)[: len(of_class) // 2]] = False
    return np.flatnonzero(used)


def labels_of(recipe: Recipe, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the labels, (N,), with other classes drawn at random for the recipe's share of them."""
    rng = np.random.default_rng(recipe.seed)
    wrong = rng.permutation(len(labels))[: round(recipe.wrong_labels * len(labels))]
    made = labels.copy()
    made[wrong] = (made[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return made
