"""How pixels get to where a model is: read there from a file, or through the object store, once for each node."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from harness.data.rows import FileRows, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from harness.inference.perturbed import Perturbed

PAGE = 16 << 20
"""Bytes of images that go into the object store together."""


@dataclass(eq=False)
class Pages:
    """Pixels in the object store: page i is the rows from `i * rows` on.

    The references to pages travel beside it, as Ray's own arguments: it would never let go of those in bytes of ours.
    """

    rows: int
    shape: tuple[int, ...]
    references: Mapping[int, Any] = field(default_factory=dict)

    def __call__(self, positions: np.ndarray) -> Tensor:
        """Return the rows at these positions, (M,) int64, copied out of the store, where nothing is held."""
        import ray

        found = np.empty((len(positions), *self.shape[1:]), dtype=np.uint8)
        numbers = positions // self.rows
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            found[here] = ray.get(self.references[int(number)])[positions[here] - number * self.rows]
        return torch.from_numpy(found)


class Store:
    """What this process has put into the object store, as long as somebody has the images."""

    def __init__(self) -> None:
        self._put: dict[int, dict[int, Any]] = {}

    def sent(self, inputs: Perturbed, *, reads_files: bool) -> tuple[Perturbed, dict[int, Any]]:
        """Return inputs that can be made elsewhere, and references to the pages that this takes, for `received`.

        Pixels of a file with a name are read there, and take none, where the other side `reads_files`.
        """
        pixels = inputs.pixels
        if reads_files and isinstance(pixels, Rows):
            read, positions = pixels.source
            if isinstance(read, FileRows) and read.path:
                return replace(inputs, pixels=_stand_in(read, read.shape), at=positions[inputs.at]), {}
        rows = max(1, PAGE // max(1, math.prod(pixels.shape[1:])))
        pages = {number: self._page(pixels, number, rows) for number in np.unique(inputs.at // rows).tolist()}
        return replace(inputs, pixels=_stand_in(Pages(rows, tuple(pixels.shape)), pixels.shape)), pages

    def _page(self, pixels: Tensor, number: int, rows: int) -> Any:
        import ray

        key = id(pixels)
        if key not in self._put:
            self._put[key] = {}
            weakref.finalize(pixels, self._put.pop, key, None)
        pages = self._put[key]
        if number not in pages:
            part = pixels[number * rows : (number + 1) * rows]
            pages[number] = ray.put(np.ascontiguousarray(part.numpy()))
        return pages[number]


def received(inputs: Perturbed, pages: Mapping[int, Any]) -> Perturbed:
    """Return inputs that were sent, with the pages that were sent beside them."""
    stand_in = cast("Any", inputs.pixels)
    if isinstance(stand_in.read, Pages):
        stand_in.read.references = pages
    return inputs


def _stand_in(read: Any, shape: Any) -> Tensor:
    """Return rows that are read by this, without a list of all positions, which would travel along."""
    return cast("Tensor", _Remote(read, tuple(shape)))


class _Remote:
    """Stands in for the pixels of all images where only some are asked for."""

    def __init__(self, read: Any, shape: tuple[int, ...]) -> None:
        self.read, self.shape = read, shape

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def __getitem__(self, positions: Tensor) -> Tensor:
        found: Tensor = self.read(positions.numpy())
        return found
