"""Common corruptions of images, at five severities each.

They are noise, blur, light, compression, warps and missing parts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from harness.base.errors import InputError
from harness.base.registry import Registry
from harness.perturb.corruptions.shipped import CHANGES, Shipped

if TYPE_CHECKING:
    from torch import Tensor

_RGB = 3
_BLOCK_VALUES = 1 << 16
"""Most values of images that are changed together, unless a single image has more."""
Apply = Callable[[np.ndarray, float, Sequence[np.random.Generator]], np.ndarray]
"""The function that makes a corruption."""


class CorruptionFunction(NamedTuple):
    """The function of a corruption, with its levels at severities 1 to 5.

    It is called as `apply(images, level, generators)`, with (N, H, W, C) float32 images in [0, 1].
    Each image has a generator, which is in the same state at every severity, so that a higher level
    is more of the same corruption. A function that never `draws` gets an empty list of generators,
    which take time to make. The result may leave [0, 1]; it is clipped.
    """

    apply: Apply
    levels: tuple[float, ...]
    draws: bool = True

    @property
    def effect(self) -> str:
        """Return what the corruption does with its level, by the first sentence of its function."""
        docstring = inspect.getdoc(self.apply) or ""
        first_paragraph = docstring.partition("\n\n")[0]
        sentence = " ".join(first_paragraph.split())
        return sentence or "Not described: its function has no docstring."

    @property
    def levels_in_words(self) -> str:
        """Return the levels of severities 1 to 5."""
        return ", ".join(map(str, self.levels))


def one_by_one(change: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return the function of a batch of images that applies a function of one image to each.

    Args:
        change: The function of one image, (H, W, C). Its last argument is the image's generator, if
            images have generators.
    """

    @wraps(change)
    def apply(images: np.ndarray, *arguments: Any) -> np.ndarray:
        *level, generators = arguments
        changed = []
        for position, image in enumerate(images):
            own_generator = generators[position : position + 1]
            changed.append(change(image, *level, *own_generator))
        if len(changed) == 1:  # The usual case of large images, which are not copied.
            return changed[0].reshape(images.shape)
        return np.stack(changed).reshape(images.shape)

    return apply


def changed_alike(
    images: Tensor,
    name: str,
    apply: Callable[..., np.ndarray],
    *arguments: float,
    draws: bool = True,
) -> Tensor:
    """Return images after `apply(images, *arguments, generators)`; see `CorruptionFunction`.

    Input and output are rounded to 8 bits. The name and an image's own pixels determine its
    generator, so that batch and process have no effect.

    Args:
        images: The images, (N, C, H, W) in [0, 1].
        name: The name of the corruption.
        apply: The function of the corruption.
        arguments: What it gets between the images and their generators.
        draws: Whether there are generators; else their list is empty.

    Returns:
        The changed images, (N, C, H, W) float32 in [0, 1].
    """
    import torch

    from harness.data.images import unit_range

    if not len(images):
        return images
    planes = images.mul(255).round_().to(torch.uint8).contiguous().cpu().numpy()

    blocks = []
    for rows in _blocks(planes):
        pixels = _channels_last(planes[rows])
        generators = [_generator_of(image, name) for image in pixels] if draws else []
        changed = apply(pixels.astype(np.float32) / 255, *arguments, generators)
        scaled = changed.clip(0, 1)
        scaled *= 255
        blocks.append(np.rint(scaled).astype(np.uint8))
    changed_pixels = torch.from_numpy(np.concatenate(blocks)).to(images.device)
    # The memory stays in this order, which convolutions take.
    return unit_range(changed_pixels.permute(0, 3, 1, 2))


def _blocks(planes: np.ndarray) -> Iterator[slice]:
    """Yield positions of images that fit into the processor's cache together, as float32."""
    size = max(1, _BLOCK_VALUES // planes[0].size)
    for start in range(0, len(planes), size):
        yield slice(start, start + size)


def _channels_last(planes: np.ndarray) -> np.ndarray:
    """Return (N, C, H, W) uint8 pixels as (N, H, W, C), contiguous."""
    import cv2

    count, channels, height, width = planes.shape
    if channels != _RGB:
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    pixels = np.empty((count, height, width, channels), dtype=np.uint8)
    for image, image_planes in zip(pixels, planes, strict=True):
        # Many times as fast as NumPy's copy in another order.
        cv2.merge(tuple(image_planes), image)
    return pixels


class _Key(ISeedSequence):
    """The digest of an image as the key of its generator.

    Philox has an argument `key`, too, but then reads random numbers of the system that it ignores.
    """

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """Return the digest as Philox asks for it, two words of 64 bits."""
        return np.frombuffer(self._digest, dtype="<u8").astype(dtype)[:n_words]


def _generator_of(pixels: np.ndarray, name: str) -> np.random.Generator:
    """Return the generator of an image, (H, W, C) uint8, under the corruption of this name."""
    digest = blake2b(pixels.data, digest_size=16, key=name.encode()).digest()
    key = _Key(digest)
    # NumPy's documentation allows any `ISeedSequence`, and its annotations do not.
    return np.random.Generator(np.random.Philox(key))  # type: ignore[arg-type]


def _function_of(shipped: Shipped) -> CorruptionFunction:
    """Return the corruption as a function of many images."""
    apply = shipped.change
    if shipped.one_by_one:
        apply = one_by_one(apply)
    elif not shipped.draws:
        apply = _without_generators(apply)
    return CorruptionFunction(apply, shipped.levels, shipped.draws)


def _without_generators(change: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    @wraps(change)
    def apply(images: np.ndarray, level: float, _: object) -> np.ndarray:
        return change(images, level)

    return apply


SHIPPED = {name: _function_of(shipped) for name, shipped in CHANGES.items()}
"""The corruptions that ship, by name."""
SEVERITIES = (1, 2, 3, 4, 5)
ALL = "all"
"""Name for all shipped corruptions; it does not include installed ones."""
CORRUPTIONS = Registry("corruption", CorruptionFunction, SHIPPED, hook="stress_corruptions")
"""The shipped corruptions, and the ones that `corruption` declares."""


def corruption(name: str, *, levels: Sequence[float]) -> Callable[[Apply], Apply]:
    """Declare a corruption of your own, as a decorator of its function.

    The function takes images, (N, H, W, C) float32 in [0, 1], a level, and a random generator for
    each image. It returns images of this shape. A row of the checks file then names the corruption.

    Args:
        name: The name in the checks file.
        levels: The levels of severities 1 to 5.

    Raises:
        InputError: The name is taken or has other characters, or there are not five levels.
    """
    lower_case = name.isascii() and name == name.lower()
    if not name or name == ALL or " " in name or not lower_case:
        raise InputError(
            f"corruption {name!r}: expected a name of lower-case ASCII letters, digits and hyphens"
        )
    if len(levels) != len(SEVERITIES):
        raise InputError(
            f"corruption {name!r}: {len(levels)} levels, expected one for each severity from 1 to 5"
        )

    def declared(apply: Apply) -> Apply:
        function = CorruptionFunction(apply, tuple(map(float, levels)))
        CORRUPTIONS.add(name, function, declared_by=apply)
        return apply

    return declared


@dataclass(frozen=True)
class Corruption:
    """A corruption of `CORRUPTIONS` at a severity from 1 to 5.

    Severity 0 returns its input bit for bit; otherwise, input and output are rounded to 8 bits. The
    random state depends only on the pixels of the image, not on its batch or process.

    Raises:
        ValueError: The name is unknown, or the severity is not a whole number from 0 to 5.

    >>> Corruption("gaussian-noise", 3).in_words()
    'gaussian noise, severity 3 of 5'
    """

    name: str
    severity: int

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            expected = ", ".join(CORRUPTIONS)
            raise ValueError(f"corruption {self.name!r} is unknown; expected one of {expected}")
        if self.severity not in {0, *SEVERITIES}:
            raise ValueError(
                f"corruption {self.name}: severity is {self.severity!r}, "
                "expected a whole number, 0 to 5"
            )

    @property
    def of_user(self) -> bool:
        """Return whether its code is a user's, which may change under the same name."""
        return self.name not in SHIPPED

    def __call__(self, images: Tensor) -> Tensor:
        """Return the corrupted images, (N, C, H, W) like the input, pixels in [0, 1]."""
        if not self.severity:
            return images
        function = CORRUPTIONS[self.name]
        level = function.levels[self.severity - 1]
        return changed_alike(images, self.name, function.apply, level, draws=function.draws)

    def in_words(self) -> str:
        """Return a description such as "gaussian noise, severity 3 of 5"."""
        name = self.name.replace("-", " ")
        return f"{name}, severity {self.severity} of {len(SEVERITIES)}"


def corruptions_of(named: Sequence[tuple[str, int]] | None) -> tuple[Corruption, ...]:
    """Return the corruptions of these names at their severities; none for None."""
    return tuple(Corruption(name, severity) for name, severity in named or ())
