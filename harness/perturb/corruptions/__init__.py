"""Common corruptions of images: noise, blur, light, compression, warps and missing parts, at five severities each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.perturb.corruptions.shipped import CHANGES

if TYPE_CHECKING:
    from torch import Tensor

Apply = Callable[[np.ndarray, float, Sequence[np.random.Generator]], np.ndarray]
"""The function that makes a corruption."""


class Kind(NamedTuple):
    """The function of a corruption: `apply(images, level, draws)` on (N, H, W, C) float32 images in [0, 1].

    `draws` is a generator for each image, in the same state at every severity, so a higher level is more of the same
    corruption. The result may leave [0, 1]; it is clipped.
    """

    apply: Apply
    levels: tuple[float, ...]

    @property
    def effect(self) -> str:
        """Return what the corruption does with its level, by the first sentence of its function."""
        text = inspect.getdoc(self.apply) or ""
        sentence = " ".join(text.partition("\n\n")[0].split())
        return sentence or "Not described: its function has no docstring."

    @property
    def levels_in_words(self) -> str:
        """Return the levels of severities 1 to 5."""
        return ", ".join(map(str, self.levels))


def one_by_one(change: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return the function of images that a function of one image, which ends with its generator, gives."""

    @wraps(change)
    def apply(images: np.ndarray, *arguments: Any) -> np.ndarray:
        *level, draws = arguments
        changed = [change(image, *level, draw) for image, draw in zip(images, draws, strict=True)]
        return np.stack(changed).reshape(images.shape)

    return apply


def changed_alike(
    images: Tensor, name: str, apply: Callable[..., np.ndarray], *arguments: float
) -> Tensor:
    """Return images (N, C, H, W) after `apply(images, *arguments, draws)`, see `Kind`; both are rounded to 8 bits.

    The `name` and an image's own pixels determine its generator, so batch and process have no effect.
    """
    import torch

    from harness.data.images import unit_range

    if not len(images):
        return images
    pixels = np.rint(images.permute(0, 2, 3, 1).contiguous().cpu().numpy() * 255).astype(np.uint8)
    keys = (
        blake2b(image.tobytes(), digest_size=16, key=name.encode()).digest() for image in pixels
    )
    draws = [
        np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))) for key in keys
    ]
    changed = apply(pixels.astype(np.float32) / 255, *arguments, draws)
    stored = np.rint(changed.clip(0, 1) * 255).astype(np.uint8).transpose(0, 3, 1, 2)
    return unit_range(torch.from_numpy(np.ascontiguousarray(stored)).to(images.device))


SHIPPED = {name: Kind(one_by_one(change), levels) for name, (change, levels) in CHANGES.items()}
"""The corruptions that ship, by name."""
SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
"""Name for all shipped corruptions; it does not include installed ones."""
CORRUPTIONS = Registry("corruption", Kind, SHIPPED, hook="stress_corruptions")
"""The shipped corruptions, and the ones that `corruption` declares."""


def corruption(name: str, *, levels: Sequence[float]) -> Callable[[Apply], Apply]:
    """Declare a corruption of your own, as a decorator of its function.

    The function takes images, (N, H, W, C) float32 in [0, 1], a level, and a random generator for each image. It
    returns images of this shape. `levels` are those of severities 1 to 5. A row of the checks file then names the
    corruption. Raises `InputError` for a name that is taken, and unless there are five levels.
    """
    if not name or name == ALL or not (name.isascii() and name == name.lower()) or " " in name:
        raise InputError(
            f"corruption {name!r}: expected a name of lower-case ASCII letters, digits and hyphens"
        )
    if len(levels) != len(SEVERITIES):
        raise InputError(
            f"corruption {name!r}: {len(levels)} levels, expected one for each severity from 1 to 5"
        )

    def declared(apply: Apply) -> Apply:
        CORRUPTIONS.add(name, Kind(apply, tuple(map(float, levels))), declared_by=apply)
        return apply

    return declared


@dataclass(frozen=True)
class Corruption:
    """A corruption of `CORRUPTIONS` at a severity from 1 to 5; severity 0 returns its input bit for bit.

    `of_user` says whether its code is a user's, which may change under the same name. Input and output are rounded to 8
    bits. The random state depends only on the pixels of the image, not on its batch or process. Raises `ValueError` for
    an unknown name and for another severity.
    """

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            raise ValueError(
                f"corruption {self.name!r} is unknown; expected one of {', '.join(CORRUPTIONS)}"
            )
        if self.severity not in {0, *SEVERITIES}:
            raise ValueError(
                f"corruption {self.name}: severity is {self.severity!r}, expected a whole number, 0 to 5"
            )

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
