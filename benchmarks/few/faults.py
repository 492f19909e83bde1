"""Networks of a case: healthy ones, and those with a fault of training.

Trained where their files are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.few.cases import SIZES, TEST_SEED, TRAINING_SEED, Case, Images
from benchmarks.few.network import Network, make_batch_norm_stale, pixels_of, trained
from benchmarks.runner import few

WRONG_LABELS = 0.08
"""Share of training images with the label of another class."""
BRIGHTNESS = 0.8
"""Factor of the pixels from which a stale batch norm has its statistics."""
STALE_BLOCK = 1
HALF = 0.5
RARE_CLASS, RARE_SHARE = 3, 0.05
"""A class, and the share of its training images that stays."""
SEEDS_OF_A_FAULT = few(2, 1)
FIRST_SEED_OF_FAULTS = 1_001


@dataclass(frozen=True)
class Training:
    """Input of a training.

    Images, labels and groups, the case with its recipe and range, and a seed.
    """

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    case: Case
    seed: int

    def part(self, stays: np.ndarray) -> Training:
        """Return the training with the images where `stays` is true, (N,) bool."""
        groups = self.groups[stays] if self.case.grouped else self.groups
        return replace(self, images=self.images[stays], labels=self.labels[stays], groups=groups)

    def network(self, prepare: Callable[[nn.Module], None] = lambda _: None) -> nn.Module:
        """Return the network that this training gives; `prepare` is called with it before."""
        torch.manual_seed(self.seed)
        network = self.case.make(**self.case.model_args)
        prepare(network)
        pixels, labels = pixels_of(self.images), torch.from_numpy(self.labels).long()
        return trained(network, pixels, labels, self.case.recipe, self.case.augmentation)

    def draws(self) -> np.random.Generator:
        """Return the generator of what a fault draws."""
        return np.random.default_rng(self.seed)


def healthy(training: Training) -> nn.Module:
    """Return a network without a fault."""
    return training.network()


def with_label_noise(training: Training, share: float = WRONG_LABELS) -> nn.Module:
    """Return a network for which a share of the labels are those of other classes."""
    rng, count, classes = training.draws(), len(training.labels), len(training.case.classes)
    other_labels = (training.labels + rng.integers(1, classes, count)) % classes
    is_wrong = rng.random(count) < share
    return replace(training, labels=np.where(is_wrong, other_labels, training.labels)).network()


def with_stale_batch_norm(training: Training) -> nn.Module:
    """Return a healthy network of which a batch norm has its statistics from darker images."""
    network = training.network()
    assert isinstance(network, Network)
    make_batch_norm_stale(network, BRIGHTNESS * pixels_of(training.images), block=STALE_BLOCK)
    return network


def on_half_of_the_images(training: Training) -> nn.Module:
    """Return a network that saw half of the training images."""
    order = training.draws().permutation(len(training.labels))
    return training.part(order < HALF * len(order)).network()


def without_a_group_or_class(training: Training) -> nn.Module:
    """Return a network whose training lacked a group, or most images of a class."""
    if training.case.absent:
        return training.part(training.groups != training.case.absent).network()
    chance = training.draws().random(len(training.labels))
    return training.part((training.labels != RARE_CLASS) | (chance < RARE_SHARE)).network()


def without_shifts(training: Training) -> nn.Module:
    """Return a network whose training images were not shifted."""
    augmentation = replace(training.case.augmentation, shift_x=0, shift_y=0)
    return replace(training, case=replace(training.case, augmentation=augmentation)).network()


FAULTS: dict[str, Callable[[Training], nn.Module]] = {
    "label noise": with_label_noise,
    "stale batch norm": with_stale_batch_norm,
    "half of the images": on_half_of_the_images,
    "group or class missing": without_a_group_or_class,
    "no shifts": without_shifts,
}
"""Functions that train a network with a fault.

Their strengths were chosen before any detection was measured.
"""


def healthy_paths(
    case: Case, folder: Path
) -> dict[Path, tuple[Callable[[Training], nn.Module], int]]:
    """Return the files of the healthy networks, each with its training function and seed."""
    return {folder / f"seed-{seed:02}.pth": (healthy, seed) for seed in range(1, case.networks + 1)}


def faulty_paths(folder: Path) -> dict[Path, tuple[Callable[[Training], nn.Module], int]]:
    """Return the files of the networks with faults, each with its training function and seed."""
    paths: dict[Path, tuple[Callable[[Training], nn.Module], int]] = {}
    seed = FIRST_SEED_OF_FAULTS
    for fault, train in FAULTS.items():
        for number in range(SEEDS_OF_A_FAULT):
            paths[folder / f"{fault.replace(' ', '-')}-{number + 1}.pth"] = train, seed
            seed += 1
    return paths


def fault_of(name: str) -> str:
    """Return the fault of a network by the name of its file, such as `label-noise-2`."""
    return name.rpartition("-")[0].replace("-", " ")


def write_network(path: Path, network: nn.Module) -> None:
    """Write the weights of a network, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(network.state_dict(), part)
    part.rename(path)


def images_of(case: Case, folder: Path) -> tuple[Images, Images]:
    """Return training and test images of a case.

    They are made where their files are missing.
    """
    training = _stored(case, folder / "training.npz", case.training_images, TRAINING_SEED)
    test = _stored(case, folder / "test.npz", max(SIZES), TEST_SEED)
    return training, test


def _stored(case: Case, path: Path, count: int, seed: int) -> Images:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        images, labels, groups = case.images(count, seed)
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, images=images, labels=labels, groups=groups)
        part.rename(path)
    with np.load(path) as arrays:
        return arrays["images"], arrays["labels"], arrays["groups"]
