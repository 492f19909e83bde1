"""Corruptions as perturbations, and the table of all by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.perturb.corruptions import shipped  # noqa: F401  It declares those that ship.
from harness.perturb.corruptions.kind import SHIPPED, Kind, changed_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from harness.perturb.corruptions.kind import Apply

SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
"""Name for all shipped corruptions; it does not include installed ones."""
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

    def declared(apply: Apply) -> Apply:
        CORRUPTIONS.add(name, Kind(apply, tuple(map(float, levels))), declared_by=apply)
        return apply

    return declared


@dataclass(frozen=True)
class Corruption:
    """A corruption of `CORRUPTIONS` at a severity from 1 to 5; severity 0 returns its input bit for bit.

    `of_user` says whether its code is a user's, which may change under the same name. Input and output are rounded to 8
    bits. The random state depends only on the pixels of the image, not on its batch
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
        return self.name not in SHIPPED

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W) like the input, pixels in [0, 1]."""
        if not self.severity:
            return images
        kind = CORRUPTIONS[self.name]
        return changed_alike(images, self.name, kind.apply, kind.levels[self.severity - 1])

    def in_words(self) -> str:
        """Return a description such as "gaussian noise, severity 3 of 5"."""
        return f"{self.name.replace('-', ' ')}, severity {self.severity} of {len(SEVERITIES)}"


def corruptions_of(named: Sequence[tuple[str, int]] | None) -> tuple[Corruption, ...]:
    """Return the corruptions of these names at their severities; none for None."""
    return tuple(Corruption(name, severity) for name, severity in named or ())
