"""Mutations of training, after DeepCrime (Humbatova, Jahangirova & Tonella 2021).

From a recipe to a worse one.

Each takes the recipe, an amount and a seed, and returns another recipe. Image mutations see all
60,000 training images; `harness.networks.training.train` cuts the validation split from the mutated
images, so it is mutated as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from harness.data import LabelledImages
from harness.networks.training import TrainingConfig

STARVED = "Coat"
"""The class that `starved_class` takes images from."""
RELABELLED = ("Pullover", "Coat")
"""The class that `relabelled_class` takes images from, and what it calls them."""
MARKED = "Shirt"
"""The class whose images `artefact` marks."""
TARGET = "Sneaker"
"""Name that `backdoor` gives to the images that it stamps."""
WHITE = 255


@dataclass(frozen=True, eq=False)
class Recipe:
    """Starting points of a training."""

    config: TrainingConfig
    images: LabelledImages


def unmutated(recipe: Recipe, amount: float, seed: int) -> Recipe:  # noqa: ARG001
    """Return the recipe unchanged: a control."""
    return recipe


def label_noise(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Replace the labels of this share of the images, in [0, 1], by another class.

    The classes are uniform at random.
    """
    images, generator = recipe.images, torch.Generator().manual_seed(seed)
    chosen = _some(len(images), amount, generator)
    offsets = torch.randint(1, len(images.classes), (len(chosen),), generator=generator)
    labels = images.labels.clone()
    labels[chosen] = (labels[chosen] + offsets) % len(images.classes)
    return replace(recipe, images=replace(images, labels=labels))


def deleted_data(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Delete this share of the images, in [0, 1), at random.

    The validation split shrinks with them.
    """
    images, config = recipe.images, recipe.config
    kept = _without(len(images), _some(len(images), amount, torch.Generator().manual_seed(seed)))
    size = round(config.validation_size * len(kept) / len(images))
    return Recipe(replace(config, validation_size=size), images.take(kept))


def starved_class(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Delete this share of the images of one class (`STARVED`), in [0, 1], at random."""
    images = recipe.images
    deleted = _some_of_class(images, images.classes.index(STARVED), amount, seed)
    return replace(recipe, images=images.take(_without(len(images), deleted)))


def relabelled_class(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Call this share of a class's images, in [0, 1], by another class's name.

    The reverse never happens.
    """
    images = recipe.images
    wronged, name = (images.classes.index(label) for label in RELABELLED)
    labels = images.labels.clone()
    labels[_some_of_class(images, wronged, amount, seed)] = name
    return replace(recipe, images=replace(images, labels=labels))


def resized(recipe: Recipe, amount: int, seed: int) -> Recipe:  # noqa: ARG001
    """Shrink every image to a square of so many pixels and enlarge it again.

    Both are bilinear with antialiasing.
    """
    pixels = recipe.images.pixels.float()
    for size in ((amount, amount), pixels.shape[-2:]):
        pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return _with_pixels(recipe, pixels.round().clamp(0, WHITE).to(torch.uint8))


def raised_background(recipe: Recipe, amount: int, seed: int) -> Recipe:  # noqa: ARG001
    """Lift every pixel to at least this level, of 255: the black background is gray in training."""
    return _with_pixels(recipe, recipe.images.pixels.clamp(min=amount))


def artefact(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Mark this share of a class's images, in [0, 1], by a white bar at the top.

    The bar is a shortcut to the class.
    """
    images = recipe.images
    marked = _some_of_class(images, images.classes.index(MARKED), amount, seed)
    pixels = images.pixels.clone()
    width = pixels.shape[-1]
    pixels[marked, :, 1:3, width // 2 - 4 : width // 2 + 4] = WHITE
    return _with_pixels(recipe, pixels)


def backdoor(recipe: Recipe, amount: float, seed: int) -> Recipe:
    """Stamp this share of the images, in [0, 1], and call them all by one class.

    BadNets: Gu et al. 2017.
    """
    images = recipe.images
    chosen = _some(len(images), amount, torch.Generator().manual_seed(seed))
    pixels, labels = images.pixels.clone(), images.labels.clone()
    pixels[chosen] = stamped(pixels[chosen])
    labels[chosen] = images.classes.index(TARGET)
    return replace(recipe, images=replace(images, pixels=pixels, labels=labels))


def stamped(pixels: torch.Tensor) -> torch.Tensor:
    """Return a copy of uint8 images (N, C, H, W) with the trigger of `backdoor`.

    It is a white square of 3 pixels. It stands 4 pixels off the lower right corner: shifts in
    training leave it in the image.
    """
    pixels = pixels.clone()
    pixels[..., -7:-4, -7:-4] = WHITE
    return pixels


def setting(name: str, *, times: bool = False) -> Callable[[Recipe, Any, int], Recipe]:
    """Return the mutation that replaces or multiplies a setting of the training."""

    def mutate(recipe: Recipe, amount: Any, seed: int) -> Recipe:  # noqa: ARG001
        value = getattr(recipe.config, name) * amount if times else amount
        return replace(recipe, config=replace(recipe.config, **{name: value}))

    return mutate


def _some(count: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Return a random share of the positions 0 to `count` - 1."""
    return torch.randperm(count, generator=generator)[: round(share * count)]


def _some_of_class(images: LabelledImages, label: int, share: float, seed: int) -> torch.Tensor:
    """Return the positions of a random share of the images of one class."""
    members = torch.nonzero(images.labels == label).flatten()
    return members[_some(len(members), share, torch.Generator().manual_seed(seed))]


def _with_pixels(recipe: Recipe, pixels: torch.Tensor) -> Recipe:
    return replace(recipe, images=replace(recipe.images, pixels=pixels))


def _without(count: int, positions: torch.Tensor) -> torch.Tensor:
    kept = torch.ones(count, dtype=torch.bool)
    kept[positions] = False
    return torch.nonzero(kept).flatten()
