"""Exported images: the scope of an export as a line of text, and the name of each image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import DataError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOAT32, UINT8 = "float32", "uint8"
NAME = np.dtype("S64")
"""The type of an image's name: 64 hexadecimal digits."""
_NUMBERS = ("protocol", "measured", "images")
_LISTS = ("asked", "families")
_MAX_TEXT = 10**6
"""Characters of the longest line that is read."""


@dataclass(frozen=True)
class Export:
    """The scope of an export: data, checks, profile, and the images.

    Attributes:
        protocol: The version of the protocol of perturbations.
        pixels: The type that pixels are stored in, `FLOAT32` or `UINT8`.
        data: The hash of the data set.
        asked: The beginning of each check's definition.
        sizes: A hash of each family's number of images and of the rounding of pixels.
        profile: The name of the checks' profile.
        measured: The size of a sample of all data, 0 without one.
        images: The number of exported images.
        names: The hash of their sorted names.
        families: The exported families, empty for all.
        samples: The number of images that a budget leaves to a family.
    """

    protocol: int
    pixels: str
    data: str
    asked: tuple[str, ...]
    sizes: str
    profile: str = "default"
    measured: int = 0
    images: int = 0
    names: str = ""
    families: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        values = dict(vars(self))
        for name in _LISTS:
            values[name] = ",".join(getattr(self, name))
        sizes = [f"{family}:{size}" for family, size in sorted(self.samples.items())]
        values["samples"] = ",".join(sizes)
        return " ".join(f"{name}={value}" for name, value in values.items())

    @staticmethod
    def read(text: str) -> Export:
        """Return the scope that a line names; raises `InputError` for any other text."""
        try:
            return _parsed(text)
        except (ValueError, TypeError, KeyError):
            raise DataError(
                f"export is {printable(text[:60])!r}, expected the line `export` of the "
                "manifest.json of an export"
            ) from None

    def holding(self, names: np.ndarray) -> Export:
        """Return the scope with these names of images, (N,) of type `NAME`."""
        return replace(self, images=len(names), names=hash_of_names(names))


def _parsed(text: str) -> Export:
    """Return the scope in a line; a `ValueError`, `TypeError` or `KeyError` means another text."""
    if len(text) > _MAX_TEXT:
        raise ValueError
    values = dict(part.split("=", 1) for part in text.split(" "))
    numbers = {name: int(values.pop(name)) for name in _NUMBERS}
    lists = {name: _words(values.pop(name)) for name in _LISTS}
    samples = {}
    for pair in _words(values.pop("samples")):
        family, size = pair.rsplit(":", 1)
        samples[family] = int(size)
    return Export(**values, **numbers, **lists, samples=samples)  # type: ignore[arg-type]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def hash_of_names(names: np.ndarray) -> str:
    """Return the SHA-256 of names in sorted order."""
    return hashlib.sha256(np.sort(names).astype(NAME).tobytes()).hexdigest()


def as_stored(pixels: np.ndarray, stored: str) -> np.ndarray:
    """Return pixels as an export stores them.

    Args:
        pixels: (N, C, H, W) in [0, 1].
        stored: The type of the stored pixels, `FLOAT32` or `UINT8`.

    Returns:
        (N, C, H, W) float32, or (N, H, W, C) uint8, rounded to the nearest of 256 levels, halves
        to even.
    """
    if stored == FLOAT32:
        return np.ascontiguousarray(pixels, dtype="<f4")
    levels = np.clip(pixels, 0, 1) * np.float32(255)
    rounded = np.rint(levels).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(0, 2, 3, 1))


def names_of(images: np.ndarray) -> np.ndarray:
    """Return the names of stored images, (N,) of type `NAME`: the SHA-256 of each image's bytes."""
    digests = [hashlib.sha256(image.data).hexdigest() for image in images]
    return np.array(digests, dtype=NAME)
