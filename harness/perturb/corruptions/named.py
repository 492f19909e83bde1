"""Corruptions as perturbations, and the table of all by name; the other modules define them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.perturb.corruptions import compression, light, noise, optics, shape
from harness.perturb.corruptions.kind import Kind, generator_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from harness.perturb.corruptions.kind import Apply

SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
"""Name for all shipped corruptions; it does not include installed ones."""


SHIPPED: Mapping[str, Kind] = {
    **noise.KINDS,
    **optics.KINDS,
    **light.KINDS,
    **compression.KINDS,
    **shape.KINDS,
}
"""The corruptions that ship, by name, each with its parameter at severities 1 to 5."""

CORRUPTIONS: Registry[Kind] = Registry("corruption", SHIPPED, group="stress_harness.corruptions")
"""The shipped corruptions, and the ones that `corruption` declares."""


def corruption(name: str, *, levels: Sequence[float]) -> Callable[[Apply], Apply]:
    """Declare a corruption of your own, as a decorator of its function.

    The function takes images, (N, H, W, C) float32 in [0, 1], a level, and a random generator for each image. It
    returns images of this shape. `levels` are those of severities 1 to 5. A row of the checks file then names the
    corruption. Raises `InputError` for a name that is taken, and unless there are five levels.
    """
    if not name or name == ALL or not (name.isascii() and name == name.lower()) or " " in name:
        raise InputError(f"corruption {name!r}: expected a name of lower-case ASCII letters, digits and hyphens")
    if len(levels) != len(SEVERITIES):
        raise InputError(f"corruption {name!r}: {len(levels)} levels, expected one for each severity from 1 to 5")
    first, second, third, fourth, fifth = map(float, levels)

    def declared(apply: Apply) -> Apply:
        CORRUPTIONS.add(name, Kind(apply, (first, second, third, fourth, fifth)), declared_by=apply)
        return apply

    return declared


@dataclass(frozen=True)
class Corruption:
    """A corruption of `CORRUPTIONS` at a severity from 1 to 5; severity 0 returns its input bit for bit.

    Input and output are rounded to 8 bits. The random state depends only on the pixels of the image, not on its batch
    or process. Raises `ValueError` for an unknown name and for another severity.
    """

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            raise ValueError(f"corruption {self.name!r} is unknown; expected one of {', '.join(CORRUPTIONS)}")
        if self.severity not in {0, *SEVERITIES}:
            raise ValueError(f"corruption {self.name}: severity is {self.severity!r}, expected a whole number, 0 to 5")

    @property
    def of_user(self) -> bool:
        """Return whether its code is a user's, which may change under the same name."""
        return self.name not in SHIPPED

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W) like the input, pixels in [0, 1]."""
        import torch

        from harness.data.images import unit_range

        if not self.severity or not len(images):
            return images
        pixels = np.rint(images.permute(0, 2, 3, 1).contiguous().cpu().numpy() * 255).astype(np.uint8)
        kind = CORRUPTIONS[self.name]
        changed = kind.apply(
            pixels.astype(np.float32) / 255,
            kind.levels[self.severity - 1],
            [generator_of(self.name, image) for image in pixels],
        )
        stored = np.rint(changed.clip(0, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
        return unit_range(torch.from_numpy(np.ascontiguousarray(stored)).to(images.device))

    def in_words(self) -> str:
        """Return a description such as "gaussian noise, severity 3 of 5"."""
        return f"{self.name.replace('-', ' ')}, severity {self.severity} of {len(SEVERITIES)}"


def corruptions_of(named: Sequence[tuple[str, int]] | None) -> tuple[Corruption, ...]:
    """Return the corruptions of these names at their severities; none for None."""
    return tuple(Corruption(name, severity) for name, severity in named or ())
