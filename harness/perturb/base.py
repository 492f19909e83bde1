"""What a perturbation is, and the pinned protocol under which all of them change pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PROTOCOL = 1
"""Version of the rules above; a change of any pixel that a perturbation produces raises it."""


class Perturbation(Protocol):
    """A deterministic transform of a batch of images; its `repr` says which in results."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return the transformed images, shaped (N, C, H, W) like the input, pixels in [0, 1]."""


def in_words(perturbation: Perturbation) -> str:
    """Return what a perturbation does to an image, in its own words if it has some."""
    own: Callable[[], str] | None = getattr(perturbation, "in_words", None)
    return own() if own else repr(perturbation)


def moved_masks(masks: np.ndarray, perturbation: Perturbation) -> np.ndarray:
    """Return the masks (N, H, W) as the perturbation moves them, with the images: where at least half is object."""
    import torch

    moved = perturbation(torch.from_numpy(masks.astype(np.float32))[:, None])
    return np.asarray((moved[:, 0] >= 0.5).numpy())  # noqa: PLR2004  Half, as the docstring says.
