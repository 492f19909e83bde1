"""Measurements of each network, independent of the claims.

Images are clean, as silhouettes, as shuffled patches, and before clutter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.base.errors import InputError
from harness.data import LabelledImages, sample_up_to, split_validation
from harness.data.images import object_masks
from harness.inference import Classifier
from harness.inference.attention import attend
from harness.inference.search import first_failures
from harness.measures import (
    accuracy,
    confident_errors,
    pair_failures,
    prediction_consistency,
    robust_accuracy,
)
from harness.measures.failures import STUDY_KINDS
from harness.measures.localisation import attention_lift
from harness.networks.checkpoints import Checkpoint
from harness.perturb import augmentation_range_corners, augmentation_range_poses, pose_each
from harness.perturb.backgrounds import with_background
from harness.perturb.grids import most_dangerous_first

PATCH = 7
"""Side of a shuffled patch in pixels: a quarter of the side of a picture, which has 16 patches."""
CLUTTER = 0.3
"""Share of an image of another class in the background."""
SAMPLE, FEW = 2_000, 500


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images for every network.

    `training` and `validation` are None without training images.
    """

    test: LabelledImages
    sample: LabelledImages
    few: LabelledImages
    masks: np.ndarray
    """Mask of the object in each image of the sample, (N, H, W) bool."""
    cluttered: LabelledImages
    """The sample before a faint image of another class."""
    silhouettes: LabelledImages
    shuffled: LabelledImages
    training: LabelledImages | None = None
    validation: LabelledImages | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Return how many images there are of each kind that claims are measured on.

        Of a class, the smallest.
        """
        both = (
            0
            if self.training is None or self.validation is None
            else len(self.training) + len(self.validation)
        )
        smallest = int(np.bincount(self.test.labels.numpy()).min())
        few = {"class": smallest, "sample": len(self.sample), "few": len(self.few)}
        return {"test": len(self.test), **few, "training": both}


def pictures(
    test: LabelledImages, training: LabelledImages | None, *, validation_size: int, split: int
) -> Pictures:
    """Prepare the images.

    The seed `split` divided training and validation images of the networks.
    """
    sample = sample_up_to(test, SAMPLE)
    masks = object_masks(sample)
    parts = (
        (None, None)
        if training is None
        else split_validation(training, size=validation_size, seed=split)
    )
    return Pictures(
        test=test,
        sample=sample,
        few=sample_up_to(test, FEW),
        masks=masks,
        cluttered=with_background(sample, masks, "clutter", strength=CLUTTER).changed,
        silhouettes=silhouettes(sample),
        shuffled=shuffled_patches(sample),
        training=parts[0],
        validation=parts[1],
    )


def silhouettes(images: LabelledImages) -> LabelledImages:
    """Fill each object with the mean of its own pixels.

    Its outline and brightness stay, its texture goes.

    After Geirhos et al. (2019), "ImageNet-trained CNNs are biased towards texture", whose
    silhouettes are black.
    """
    masks = torch.from_numpy(object_masks(images).copy())[:, None]
    pixels = images.pixels.float()
    mean = (pixels * masks).sum(dim=(2, 3), keepdim=True) / masks.sum(
        dim=(2, 3), keepdim=True
    ).clamp(min=1)
    return replace(images, pixels=torch.where(masks, mean.round(), pixels).to(torch.uint8))


def shuffled_patches(images: LabelledImages, *, size: int = PATCH, seed: int = 0) -> LabelledImages:
    """Put the patches of each image in another order.

    They are squares of `size` pixels. Texture stays, shape goes. Each image has an order of its
    own. Raises `InputError` unless the patches fill the images.
    """
    count, channels, height, width = images.pixels.shape
    if height % size or width % size:
        raise InputError(
            f"shuffled patches: patches of {size} pixels do not fill images of {height}x{width}"
        )
    down, across = height // size, width // size
    patches = images.pixels.view(count, channels, down, size, across, size).permute(
        0, 2, 4, 1, 3, 5
    )
    patches = patches.reshape(count, down * across, channels, size, size)
    orders = np.random.default_rng(seed).permuted(
        np.tile(np.arange(down * across), (count, 1)), axis=1
    )
    moved = patches[torch.arange(count)[:, None], torch.from_numpy(orders)]
    whole = moved.view(count, down, across, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return replace(images, pixels=whole.reshape(images.pixels.shape).contiguous())


# Networks.

BASELINE, AUGMENTED = "baseline", "augmented"
AUGMENTATION = ("rotation_degrees", "shift_fraction", "flip_probability")
CONFIDENT = 0.9
_BATCH = 500


@dataclass(frozen=True)
class Network:
    """One network: its file's name, its training, and its measurements by the measure's name."""

    file: str
    kind: str
    seed: int
    sha256: str
    values: dict[str, float]


def recipe_of(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Return the recipe that all networks share, less seed and augmentation.

    Raises `InputError` for a file without a record of its training, for another recipe, and for a
    seed that comes twice in a kind. The kinds must differ in the augmentation alone, and their
    seeds must be independent.
    """
    recipe: dict[str, Any] = {}
    seen: dict[tuple[str, int], Checkpoint] = {}
    for checkpoint in checkpoints:
        training = checkpoint.record.training if checkpoint.record else None
        if not training:
            raise InputError(
                f"{checkpoint.path}: no record of its training; name a file that `train` wrote"
            )
        if (
            twin := seen.setdefault((kind_of(checkpoint), training["seed"]), checkpoint)
        ) is not checkpoint:
            raise InputError(
                f"{checkpoint.path}: the seed of {twin.path}; each seed of a kind counts once"
            )
        own = {
            name: value for name, value in training.items() if name not in {"seed", *AUGMENTATION}
        }
        recipe = recipe or own
        if differing := sorted(
            name for name in {*own, *recipe} if own.get(name) != recipe.get(name)
        ):
            raise InputError(
                f"{checkpoint.path}: its recipe differs from that of {checkpoints[0].path} in "
                f"{', '.join(differing)}; the networks may differ in seed and augmentation alone"
            )
    return recipe


def kind_of(checkpoint: Checkpoint) -> str:
    """Return whether a network was trained with augmentation."""
    training = (checkpoint.record and checkpoint.record.training) or {}
    return AUGMENTED if any(training.get(name) for name in AUGMENTATION) else BASELINE


def values_of(classifier: Classifier, data: Pictures) -> dict[str, float]:
    """Measure one network; shares and differences of shares are in [0, 1], not in percent."""
    clean = classifier.predict(data.test)
    pairs = [kind.pair for kind in STUDY_KINDS if kind.pair]
    similar = sum(pair_failures(clean, pair=pair).value for pair in pairs)
    attention = attend(classifier, data.sample)
    corners = [
        accuracy(classifier.predict(data.sample, corner)).value
        for corner in augmentation_range_corners()
    ]
    survived = first_failures(
        classifier, data.few, most_dangerous_first(augmentation_range_poses())
    )
    silhouettes, shuffled = (
        accuracy(classifier.predict(images)) for images in (data.silhouettes, data.shuffled)
    )
    values = {
        "accuracy": accuracy(clean).value,
        **{f"accuracy of {name}": accuracy(clean, of_class=name).value for name in clean.classes},
        "overconfidence": float(clean.confidence.mean() - clean.correct.mean()),
        "confident errors": confident_errors(clean, above=CONFIDENT).value,
        "similar errors": similar,
        "share of similar errors": similar / max(int((~clean.correct).sum()), 1),
        "lift of errors": attention_lift(attention, data.masks, answers="wrong").value,
        "lift": attention_lift(attention, data.masks).value,
        "kept in clutter": prediction_consistency(
            classifier.predict(data.sample), classifier.predict(data.cluttered)
        ).value,
        "accuracy on silhouettes": silhouettes.value,
        "accuracy on shuffled patches": shuffled.value,
        "texture over shape": shuffled.value - silhouettes.value,
        "accuracy at corners": float(np.mean(corners)),
        "right at every pose": robust_accuracy(survived).value,
        "separation": separation(classifier, data.sample, moved=False),
        "separation when moved": separation(classifier, data.sample, moved=True),
    }
    if data.training is not None and data.validation is not None:
        seen, unseen = (
            accuracy(classifier.predict(images)).value
            for images in (data.training, data.validation)
        )
        values["gap"] = seen - unseen
    return {name: round(float(value), 6) for name, value in values.items()}


def separation(classifier: Classifier, images: LabelledImages, *, moved: bool) -> float:
    """Return how well the features in front of the last layer tell the classes apart, in [-1, 1].

    The silhouette score, from Euclidean distances, averaged over images (Rousseeuw 1987). Moved
    images are turned and shifted to the corners of the promised envelope, each to one of the eight,
    in turn.
    """
    from sklearn.metrics import silhouette_score

    return float(
        silhouette_score(penultimate(classifier, images, moved=moved), images.labels.numpy())
    )


def penultimate(classifier: Classifier, images: LabelledImages, *, moved: bool) -> np.ndarray:
    """Return what the last fully connected layer is given for each image, (N, features) float32.

    See `separation`.
    """
    last = [module for module in classifier.plain.modules() if isinstance(module, nn.Linear)][-1]
    corners = augmentation_range_corners() if moved else ()

    def inputs(positions: np.ndarray) -> torch.Tensor:
        pixels = classifier.inputs(images)(positions)
        if not moved:
            return pixels
        poses = [corners[position % len(corners)] for position in positions]
        degrees, dx, dy = (
            torch.tensor([getattr(pose, axis) for pose in poses])
            for axis in ("degrees", "dx", "dy")
        )
        return pose_each(pixels, degrees, dx, dy)

    def compute() -> np.ndarray:
        taken: list[np.ndarray] = []
        handle = last.register_forward_pre_hook(
            lambda _, given: taken.append(given[0].cpu().numpy())
        )
        try:
            with torch.inference_mode():
                for positions in np.array_split(np.arange(len(images)), -(-len(images) // _BATCH)):
                    classifier.plain(inputs(positions))
        finally:
            handle.remove()
        return np.concatenate(taken)

    return classifier.cached(
        ("penultimate", corners), images, (len(images), last.in_features), compute
    )
