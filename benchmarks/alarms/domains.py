"""The two domains.

Their training and test images, and the conditions under which networks are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional

from benchmarks.alarms import drawn as pictures
from benchmarks.runner import fashion_mnist, few
from harness.data import LabelledImages, stratified_sample
from harness.data.domain import AugmentationRange, Domain
from harness.perturb import IDENTITY, HorizontalFlip, Perturbation, Pose
from harness.perturb.corruptions import Corruption

TEST_IMAGES = few(2_000, 60)
"""Number of Fashion-MNIST test images."""
TRAINING_IMAGES = few(4_000, 60)
"""Number of Fashion-MNIST training images, the first ones."""
SIDE = 14
"""Pixels of a side of an image of Fashion-MNIST, half of the original."""
DIGITS_TEST = few(898, 60)
"""Number of test images of the digits, the last ones. All others are for training."""
CORRUPTIONS = ("gaussian-noise", "gaussian-blur", "contrast", "occlusion-square")
"""Corruptions that are measured."""
SEVERITY = 3
"""Their severity, the one that `init` chooses."""
CLEAN = repr(IDENTITY)


@dataclass(frozen=True, eq=False)
class Training:
    """Training images, (N, H, W) float32 in [0, 1], and their labels, (N,) int64."""

    pixels: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Recipe:
    """The recipe of all networks of a domain.

    Images are shifted by at most one pixel along each axis, and flipped at random with `flip`.
    """

    epochs: int
    rate: float
    flip: bool
    batch: int = 64


@dataclass(frozen=True)
class NetworkDomain:
    """A domain: its images, its recipe, and the numbers of test images to measure."""

    name: str
    title: str
    images: Callable[[], tuple[Training, LabelledImages]]
    recipe: Recipe
    sizes: tuple[int, ...]

    @property
    def augmentation(self) -> AugmentationRange:
        """Return the range that the gate measures: that of the recipe, and rotations."""
        return AugmentationRange(rotate=10, shift_x=1, shift_y=1, flip=self.recipe.flip)

    @property
    def conditions(self) -> Mapping[str, Perturbation]:
        """Return the perturbations of the test images by their names, clean images first."""
        rotations = [Pose(degrees=angle) for angle in (-10.0, -5.0, 5.0, 10.0)]
        shifts = [Pose(dx=1.0), Pose(dx=-1.0), Pose(dy=1.0), Pose(dy=-1.0)]
        flips = [HorizontalFlip()] if self.recipe.flip else []
        corruptions = [Corruption(name, SEVERITY) for name in CORRUPTIONS]
        perturbations = [IDENTITY, *rotations, *shifts, *flips, *corruptions]
        return {repr(perturbation): perturbation for perturbation in perturbations}


def digits() -> tuple[Training, LabelledImages]:
    """Return the 8 x 8 digits of scikit-learn: one half for training, the other for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # The digits have 17 gray levels, and the writers of the two halves differ.
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train = Training(pixels[:-DIGITS_TEST].float() / 255, labels[:-DIGITS_TEST])
    test = LabelledImages(
        pixels[-DIGITS_TEST:, None],
        labels[-DIGITS_TEST:],
        tuple(str(digit) for digit in range(10)),
        "digits",
        "test",
        domain=Domain(AugmentationRange(rotate=10, shift_x=1, shift_y=1)),
    )
    return train, test


def fashion() -> tuple[Training, LabelledImages]:
    """Return Fashion-MNIST at half of its size: the first training images, and a test sample."""
    train, test = fashion_mnist("train"), fashion_mnist("test")
    sample = stratified_sample(test, TEST_IMAGES)
    # An image of the sample must not depend on its class, so that fewer images are fair, too.
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(sample)))
    images = LabelledImages(
        _halved(sample.pixels[order]),
        sample.labels[order],
        sample.classes,
        "fashion-mnist-14",
        "test",
        domain=Domain(AugmentationRange(rotate=10, shift_x=1, shift_y=1, flip=True)),
    )
    pixels = _halved(train.pixels[:TRAINING_IMAGES])[:, 0].float() / 255
    return Training(pixels, train.labels[:TRAINING_IMAGES]), images


def drawn(
    draw: Callable[..., tuple[np.ndarray, np.ndarray]],
    classes: tuple[str, ...],
    name: str,
    *,
    flip: bool,
) -> tuple[Training, LabelledImages]:
    """Return drawn images of a domain: those for training, and others for the test."""
    train_pixels, train_labels = draw(TRAINING_IMAGES, seed=1)
    test_pixels, test_labels = draw(TEST_IMAGES, seed=2)
    test = LabelledImages(
        torch.from_numpy(test_pixels)[:, None],
        torch.from_numpy(test_labels),
        classes,
        name,
        "test",
        domain=Domain(AugmentationRange(rotate=10, shift_x=1, shift_y=1, flip=flip)),
    )
    train = Training(torch.from_numpy(train_pixels).float() / 255, torch.from_numpy(train_labels))
    return train, test


def letters() -> tuple[Training, LabelledImages]:
    """Return drawn letters."""
    return drawn(pictures.letters, tuple(pictures.LETTERS), "letters", flip=False)


def shapes() -> tuple[Training, LabelledImages]:
    """Return drawn shapes."""
    return drawn(pictures.shapes, pictures.SHAPES, "shapes", flip=True)


def _halved(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (N, 1, 28, 28) uint8 at 14 x 14, each pixel the mean of four."""
    means = functional.avg_pool2d(pixels.float(), 28 // SIDE)
    return means.round().to(torch.uint8)


@cache
def images_of(name: str) -> tuple[Training, LabelledImages]:
    """Return the training and test images of a domain."""
    return DOMAINS[name].images()


DOMAINS = {
    "digits": NetworkDomain(
        "digits",
        "Digits, 8 x 8",
        digits,
        Recipe(epochs=few(40, 1), rate=0.015, flip=False),
        sizes=few((200, 500, 898), (60,)),  # type: ignore[type-var]
    ),
    "fashion": NetworkDomain(
        "fashion",
        "Fashion-MNIST, 14 x 14",
        fashion,
        Recipe(epochs=few(10, 1), rate=0.015, flip=True),
        sizes=few((200, 500, 2_000), (60,)),  # type: ignore[type-var]
    ),
    "letters": NetworkDomain(
        "letters",
        "Letters, 14 x 14",
        letters,
        Recipe(epochs=few(10, 1), rate=0.015, flip=False),
        sizes=few((200, 500, 2_000), (60,)),  # type: ignore[type-var]
    ),
    "shapes": NetworkDomain(
        "shapes",
        "Shapes, 14 x 14",
        shapes,
        Recipe(epochs=few(10, 1), rate=0.015, flip=True),
        sizes=few((200, 500, 2_000), (60,)),  # type: ignore[type-var]
    ),
}
