"""A half of the image blacked out: where a model looks shows in the answers that this changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIDES = ("left", "right", "upper", "lower")


@dataclass(frozen=True)
class Covered:
    """Black out one half of every image: left, right, upper or lower."""

    side: str

    def __call__(self, images: Tensor) -> Tensor:
        """Return the images (N, C, H, W) with the half set to 0."""
        height, width = images.shape[-2:]
        rows = slice(height // 2) if self.side == "upper" else slice(height // 2 if self.side == "lower" else 0, None)
        columns = slice(width // 2) if self.side == "left" else slice(width // 2 if self.side == "right" else 0, None)
        covered = images.clone()
        covered[..., rows, columns] = 0.0
        return covered
