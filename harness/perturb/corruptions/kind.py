"""A kind of corruption: its function and its level at each severity, and what all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Apply = Callable[[np.ndarray, float, Sequence[np.random.Generator]], np.ndarray]
"""The function that makes a corruption."""
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""The function of a shipped corruption: of an image, (H, W, C) float32 in [0, 1], a level and its own generator."""


class Kind(NamedTuple):
    """The function of a corruption: `apply(images, level, draws)` on (N, H, W, C) float32 images in [0, 1].

    `draws` is a generator for each image, in the same state at every severity, so a higher level is more of the same
    corruption. The result may leave [0, 1]; it is clipped.
    """

    apply: Apply
    levels: tuple[float, ...]


SHIPPED: dict[str, Kind] = {}
"""The corruptions that ship, by name, each with its level at severities 1 to 5."""


def ships(name: str, *levels: float) -> Callable[[Change], Change]:
    """Add a corruption with its levels at severities 1 to 5 to the shipped ones, as a decorator of its function."""

    def declared(change: Change) -> Change:
        def apply(images: np.ndarray, level: float, draws: Sequence[np.random.Generator]) -> np.ndarray:
            changed = [change(image, level, draw) for image, draw in zip(images, draws, strict=True)]
            return np.stack(changed).reshape(images.shape)

        SHIPPED[name] = Kind(apply, levels)
        return change

    return declared


def generator_of(name: str, image: np.ndarray) -> np.random.Generator:
    """Return the generator of an image, uint8, which only depends on its pixels and on the corruption's name."""
    key = blake2b(image.tobytes(), digest_size=16, key=name.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def changed_alike(images: Tensor, name: str, apply: Callable[..., np.ndarray], *arguments: float) -> Tensor:
    """Return images (N, C, H, W) after `apply(images, *arguments, draws)`, see `Kind`; both are rounded to 8 bits.

    The `name` and an image's own pixels determine its generator, so batch and process have no effect.
    """
    import torch

    from harness.data.images import unit_range

    if not len(images):
        return images
    pixels = np.rint(images.permute(0, 2, 3, 1).contiguous().cpu().numpy() * 255).astype(np.uint8)
    changed = apply(pixels.astype(np.float32) / 255, *arguments, [generator_of(name, image) for image in pixels])
    stored = np.rint(changed.clip(0, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
    return unit_range(torch.from_numpy(np.ascontiguousarray(stored)).to(images.device))
