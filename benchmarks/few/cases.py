"""Cases from further domains, which chose no rule.

Their images, recipes and augmentation ranges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from benchmarks.causes.rendered import pictures as letters_in_color
from benchmarks.few import voices
from benchmarks.few.network import Augmentation, Network, Recipe
from benchmarks.runner import few
from benchmarks.selfchecks import pictures

SIZES = (300, 800, 2_000)[: few(3, 1)]
"""Numbers of test images; fewer are the first ones of more."""
TRAINING_SEED, TEST_SEED = 71, 72
LETTERS = "imoty8"
"""Classes of the letters, none of them in an alphabet of `benchmarks.causes`."""
SHAPE_NOISE = 40.0
"""Standard deviation of the noise on drawn shapes, in gray levels."""
Images = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Images (N, side, side, channels) uint8, labels (N,) and groups (N,).

No groups are an empty array.
"""


@dataclass(frozen=True)
class Case:
    """A domain: images by count and seed, the network, recipe, range and healthy networks.

    The images of a `grouped` case have groups. `absent` is the group that training lacks in a
    fault. Without one, a class has few images.
    """

    name: str
    images: Callable[[int, int], Images]
    classes: tuple[str, ...]
    channels: int
    side: int
    recipe: Recipe
    augmentation: Augmentation
    networks: int
    training_images: int = few(3_000, 300)
    width: int = 8
    grouped: bool = False
    absent: str = ""
    make: Callable[..., nn.Module] = Network

    @property
    def model_args(self) -> dict[str, int]:
        """Return the arguments of the network."""
        return {
            "channels": self.channels,
            "classes": len(self.classes),
            "side": self.side,
            "width": self.width,
        }

    @property
    def families(self) -> str:
        """Return the families of checks: those of `init` by default, and batch norms."""
        geometry = ["rotation"] if self.augmentation.rotate else []
        by_group = ["slice"] if self.grouped else []
        return ",".join([*DEFAULT_FAMILIES, *by_group, *geometry, "shift", "augmentation_gap"])


DEFAULT_FAMILIES = (
    *(
        "clean",
        "class",
        "class-difference",
        "consensus",
        "confidence",
        "label_probability",
        "regression",
        "flips",
    ),
    "batch_norm",
)
"""Families that `init` writes by default, and that of batch norms."""


def shapes(count: int, seed: int) -> Images:
    """Return drawn shapes with noise."""
    images, labels = pictures.drawn(count, seed=seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(count)
    noise = rng.normal(0, SHAPE_NOISE, images.shape)
    noisy = (images + noise).round().clip(0, 255).astype(np.uint8)
    return noisy[order], labels[order].astype(np.int64), np.empty(0, dtype=str)


def letters(count: int, seed: int) -> Images:
    """Return letters in color, in four fonts, which are the groups."""
    return letters_in_color(LETTERS, count, seed)


CASES = {
    "voices": Case(
        name="voices",
        images=voices.spoken_digits,
        classes=voices.WORDS,
        channels=1,
        side=voices.SIDE,
        recipe=Recipe("adamw", rate=5e-3, epochs=6, batch=64),
        augmentation=Augmentation(rotate=0, shift_x=4, shift_y=0, border="edge"),
        networks=60,
        grouped=True,
        absent=voices.ABSENT,
    ),
    "shapes": Case(
        name="shapes",
        images=shapes,
        classes=tuple(pictures.SHAPES),
        channels=3,
        side=pictures.SIDE,
        recipe=Recipe("sgd", rate=0.1, epochs=12, batch=64, weight_decay=5e-4),
        augmentation=Augmentation(rotate=10, shift_x=1, shift_y=1, border="constant:0"),
        networks=few(28, 4),
    ),
    "letters": Case(
        name="letters",
        images=letters,
        classes=tuple(LETTERS),
        channels=3,
        side=24,
        recipe=Recipe("adamw", rate=5e-3, epochs=9, batch=64, label_smoothing=0.05),
        augmentation=Augmentation(rotate=5, shift_x=1, shift_y=1, border="edge"),
        networks=28,
        training_images=few(4_000, 300),
        width=12,
        grouped=True,
    ),
}
