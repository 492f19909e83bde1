"""Corruptions: a function of images and a level, with its level at each severity, and shared parts.

H&D is Hendrycks & Dietterich (2019), "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
section 3. Its published code has parameters for 32 x 32 pixels (CIFAR-10-C) and 224 x 224 (ImageNet-C). MNIST-C is
Mu & Gilmer (2019). Fashion-MNIST-C is Weiss & Tonella (2022), "Simple Techniques Work Surprisingly Well for Neural
Network Test Prioritization", which uses both. Lengths are in pixels at 28 x 28, and grow with the shorter side of
larger images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

Apply = Callable[[np.ndarray, float, Sequence[np.random.Generator]], np.ndarray]
"""The function that makes a corruption."""


class Kind(NamedTuple):
    """The function of a corruption: `apply(images, level, draws)` on (N, H, W, C) float32 images in [0, 1].

    `draws` is a generator for each image, in the same state at every severity, so a higher level is more of the same
    corruption. The result may leave [0, 1]; it is clipped.
    """

    apply: Apply
    levels: tuple[float, float, float, float, float]


def pixels_at_28(images: np.ndarray) -> float:
    """Return the number of pixels of these images for one pixel at 28 x 28, by the shorter side."""
    return float(min(images.shape[1:3])) / 28


def uniform(shape: tuple[int, ...], draws: Sequence[np.random.Generator]) -> np.ndarray:
    """Return random numbers in [0, 1), float32, of this shape for each image, stacked along a first axis."""
    return np.stack([draw.random(shape, dtype=np.float32) for draw in draws])


def generator_of(name: str, image: np.ndarray) -> np.random.Generator:
    """Return the generator of an image, uint8, which only depends on its pixels and on the corruption's name."""
    key = blake2b(image.tobytes(), digest_size=16, key=name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
