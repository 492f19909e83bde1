"""Images that the claims are measured on: clean, as silhouettes, as shuffled patches, before clutter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from harness.base.errors import InputError
from harness.data import LabelledImages, sample_up_to, split_validation
from harness.data.images import object_masks
from harness.perturb.backgrounds import with_background

PATCH = 7
"""Side of a shuffled patch in pixels: a quarter of the side of a picture, which has 16 patches."""
CLUTTER = 0.3
"""Share of an image of another class in the background."""
SAMPLE, FEW = 2_000, 500


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images for every network; `training` and `validation` are None where there are no training images."""

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
        """Return how many images there are of each kind that claims are measured on; of a class, the smallest."""
        both = 0 if self.training is None or self.validation is None else len(self.training) + len(self.validation)
        smallest = int(np.bincount(self.test.labels.numpy()).min())
        few = {"class": smallest, "sample": len(self.sample), "few": len(self.few)}
        return {"test": len(self.test), **few, "training": both}


def pictures(test: LabelledImages, training: LabelledImages | None, *, validation_size: int, split: int) -> Pictures:
    """Prepare the images; the seed `split` divided training and validation images of the networks."""
    sample = sample_up_to(test, SAMPLE)
    masks = object_masks(sample)
    parts = (None, None) if training is None else split_validation(training, size=validation_size, seed=split)
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
    """Fill each object with the mean of its own pixels: its outline and brightness stay, its texture goes.

    After Geirhos et al. (2019), "ImageNet-trained CNNs are biased towards texture", whose silhouettes are black.
    """
    masks = torch.from_numpy(object_masks(images).copy())[:, None]
    pixels = images.pixels.float()
    mean = (pixels * masks).sum(dim=(2, 3), keepdim=True) / masks.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return replace(images, pixels=torch.where(masks, mean.round(), pixels).to(torch.uint8))


def shuffled_patches(images: LabelledImages, *, size: int = PATCH, seed: int = 0) -> LabelledImages:
    """Put the patches of each image, squares of `size` pixels, in another order: texture stays, shape goes.

    Each image has an order of its own. Raises `InputError` unless the patches fill the images.
    """
    count, channels, height, width = images.pixels.shape
    if height % size or width % size:
        raise InputError(f"shuffled patches: patches of {size} pixels do not fill images of {height}x{width}")
    down, across = height // size, width // size
    patches = images.pixels.view(count, channels, down, size, across, size).permute(0, 2, 4, 1, 3, 5)
    patches = patches.reshape(count, down * across, channels, size, size)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(down * across), (count, 1)), axis=1)
    moved = patches[torch.arange(count)[:, None], torch.from_numpy(orders)]
    whole = moved.view(count, down, across, channels, size, size).permute(0, 3, 1, 4, 2, 5)
    return replace(images, pixels=whole.reshape(images.pixels.shape).contiguous())
