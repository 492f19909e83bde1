"""Small pictures of the images that a report speaks of, by their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.run.overview import Failing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.data import LabelledImages
    from harness.run.overview import Overview

PICTURED = 48
"""Images of a kind that a report shows small pictures of, at most."""


def spoken_of(overview: Overview) -> list[int]:
    """Return the numbers of the images that a report shows: changed, wrong in most poses, and of suspect labels."""
    numbers: list[int] = []
    if changes := overview.changes:
        numbers += [each.after.index for each in (*changes.new_failures, *changes.fixed_failures)]
    if persistent := overview.models[0][Failing].persistent:
        numbers += [row.index for row in persistent.by_confidence()[:PICTURED]]
    if suspects := overview.suspects:
        numbers += [row.index for row in suspects.rows[:PICTURED]]
    return numbers


def thumbnails_of(images: LabelledImages, numbers: Iterable[int]) -> dict[int | str, np.ndarray]:
    """Return the images of these numbers, each (H, W, C) uint8; numbers that the images have not are left out."""
    import torch

    known = images.positions.numpy()
    at = np.flatnonzero(np.isin(known, np.fromiter(set(numbers), dtype=np.int64)))
    pixels = images.take(torch.from_numpy(at)).pixels[:].permute(0, 2, 3, 1).numpy()
    return dict(zip(known[at].tolist(), pixels, strict=True))
