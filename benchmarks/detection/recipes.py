"""Mutations of training, after DeepCrime (Humbatova, Jahangirova & Tonella 2021): from a recipe to a worse one.

Each takes the recipe, an amount and a seed, and returns another recipe. Image mutations see all 60,000 training images;
`harness.networks.training.train` cuts the validation split from what they return, so that it is mutated as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.networks.training import TrainingConfig

STARVED = "Coat"
"""The class that `starved_class` takes images from."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a training starts from."""

    config: TrainingConfig
    images: LabelledImages


def unmutated(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Return the recipe as it is: a healthy retrain."""
    return recipe


def label_noise(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Replace the labels of this share of the images, in [0, 1], by another class at random (uniform)."""
    images, generator = recipe.images, torch.Generator().manual_seed(seed)
    chosen = _some(len(images), amount, generator)
    offsets = torch.randint(1, len(images.classes), (len(chosen),), generator=generator)
    labels = images.labels.clone()
    labels[chosen] = (labels[chosen] + offsets) % len(images.classes)
    return replace(recipe, images=replace(images, labels=labels))


def deleted_data(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Delete this share of the images, in [0, 1), at random; the validation split shrinks with them."""
    images, config = recipe.images, recipe.config
    kept = _without(len(images), _some(len(images), amount, torch.Generator().manual_seed(seed)))
    size = round(config.validation_size * len(kept) / len(images))
    return Recipe(replace(config, validation_size=size), images.take(kept))


def starved_class(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Delete this share of the images of one class (`STARVED`), in [0, 1], at random."""
    images = recipe.images
    members = torch.nonzero(images.labels == images.classes.index(STARVED)).flatten()
    deleted = members[_some(len(members), amount, torch.Generator().manual_seed(seed))]
    return replace(recipe, images=images.take(_without(len(images), deleted)))


def few_epochs(recipe: Recipe, amount: int, seed: int) -> Recipe:  # noqa: ARG001
    """Train for so many epochs; the one-cycle schedule is squeezed into them."""
    return _configured(recipe, epochs=amount)


def learning_rate(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Multiply the peak learning rate."""
    return _configured(recipe, learning_rate=recipe.config.learning_rate * amount)


def less_rotation(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Augment by rotations of up to so many degrees only."""
    return _configured(recipe, rotation_degrees=amount)


def less_shift(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Augment by shifts of up to this share of the image size only."""
    return _configured(recipe, shift_fraction=amount)


def less_flip(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Mirror images with this probability only."""
    return _configured(recipe, flip_probability=amount)


def _configured(recipe: Recipe, **changes: Any) -> Recipe:
    return replace(recipe, config=replace(recipe.config, **changes))


def _some(count: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return a random share of the positions 0 to `count` - 1."""
    return torch.randperm(count, generator=generator)[: round(share * count)]


def _without(count: int, positions: torch.Tensor) -> torch.Tensor:
    kept = torch.ones(count, dtype=torch.bool)
    kept[positions] = False
    return torch.nonzero(kept).flatten()
