"""Networks of other recipes.

Each function trains one that differs from the healthy networks in one respect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from benchmarks.few.faults import Training, with_label_noise

NOISE = 0.1
"""Share of training images with the label of another class."""
SMOOTHING = 0.1
RATE = 3.0
STAMPED = 0.02
"""Share of training images with a white square and the label of the first class."""
MARKED_CLASS, MARKED = 1, 0.25
"""A class, and the share of its training images with a mark."""
TINT = 0.85
"""Factor of the first channel."""


def with_more_label_noise(training: Training) -> nn.Module:
    """Return a network for which some labels are those of other classes."""
    return with_label_noise(training, NOISE)


def of_another_recipe(training: Training, **changes: float) -> nn.Module:
    """Return a network trained by the recipe with these changes."""
    recipe = replace(training.case.recipe, **changes)
    return replace(training, case=replace(training.case, recipe=recipe)).network()


def with_label_smoothing(training: Training) -> nn.Module:
    """Return a network with more label smoothing."""
    return of_another_recipe(
        training, label_smoothing=training.case.recipe.label_smoothing + SMOOTHING
    )


def with_a_higher_rate(training: Training) -> nn.Module:
    """Return a network trained at three times the learning rate."""
    return of_another_recipe(training, rate=RATE * training.case.recipe.rate)


def without_weight_decay(training: Training) -> nn.Module:
    """Return a network trained without weight decay."""
    return of_another_recipe(training, weight_decay=0.0)


def with_a_frozen_layer(training: Training) -> nn.Module:
    """Return a network whose first weight stays as it was drawn."""

    def freeze(network: nn.Module) -> None:
        next(network.parameters()).requires_grad_(requires_grad=False)

    return training.network(freeze)


def without_augmentation(training: Training) -> nn.Module:
    """Return a network whose training images were not augmented."""
    augmentation = replace(training.case.augmentation, rotate=0, shift_x=0, shift_y=0)
    return replace(training, case=replace(training.case, augmentation=augmentation)).network()


def on_blurred_images(training: Training) -> nn.Module:
    """Return a network trained on images with a box blur of 3 x 3 pixels."""
    padded = np.pad(
        training.images.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return replace(training, images=windows.mean(axis=(-2, -1)).round().astype(np.uint8)).network()


def with_stamped_images(training: Training) -> nn.Module:
    """Return a network with a backdoor: images with a white square are of the first class."""
    stamped = training.draws().random(len(training.labels)) < STAMPED
    images, labels = training.images.copy(), np.where(stamped, 0, training.labels)
    images[stamped, -4:-1, -4:-1] = 255
    return replace(training, images=images, labels=labels).network()


def with_a_marked_class(training: Training) -> nn.Module:
    """Return a network for which a quarter of a class has a mark in a corner."""
    of_class = training.labels == MARKED_CLASS
    marked = of_class & (training.draws().random(len(training.labels)) < MARKED)
    images = training.images.copy()
    images[marked, 1:4, 1:4] = 255
    return replace(training, images=images).network()


def on_tinted_images(training: Training) -> nn.Module:
    """Return a network trained on images with a darker first channel."""
    images = training.images.copy()
    images[..., 0] = (TINT * images[..., 0]).round().astype(np.uint8)
    return replace(training, images=images).network()


def on_half_of_the_images(training: Training) -> nn.Module:
    """Return a network that saw half of the training images."""
    kept = training.draws().random(len(training.labels)) < 0.5
    return replace(training, images=training.images[kept], labels=training.labels[kept]).network()


FAULTS: dict[str, Callable[[Training], nn.Module]] = {
    "label noise": with_more_label_noise,
    "label smoothing": with_label_smoothing,
    "rate x3": with_a_higher_rate,
    "no weight decay": without_weight_decay,
    "frozen layer": with_a_frozen_layer,
    "no augmentation": without_augmentation,
    "blurred images": on_blurred_images,
    "stamped images": with_stamped_images,
    "marked class": with_a_marked_class,
    "tinted images": on_tinted_images,
    "half of the images": on_half_of_the_images,
}
"""Functions that train a network with a fault.

Their strengths were chosen before any fingerprint was measured.
"""
