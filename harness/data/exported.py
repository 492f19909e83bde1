"""Exported images: the scope of an export, in one line of text, and the name of each image, a hash of its pixels."""

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
_LISTS = ("asked", "families")


@dataclass(frozen=True)
class Export:
    """The scope of an export: data, checks, profile, and the images.

    `data` is the hash of the data set. `asked` has the beginning of each check's definition. `sizes` is a hash of each
    family's number of images and of the rounding of pixels. `images` is the number of exported images, and `names` is
    the hash of their sorted names. `measured` is the size of a sample of all data, 0 without one. `families` are the
    exported ones, empty for all. `samples` gives the number of images that a budget leaves to a family.
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
        samples = ",".join(f"{family}:{size}" for family, size in sorted(self.samples.items()))
        joined = {name: ",".join(getattr(self, name)) for name in _LISTS}
        values = {**vars(self), **joined, "samples": samples}
        return " ".join(f"{name}={value}" for name, value in values.items())

    @staticmethod
    def read(text: str) -> Export:
        """Return the scope that a line names; raises `InputError` for any other text."""
        try:
            if len(text) > 10**6:
                raise ValueError
            values = dict(part.split("=", 1) for part in text.split(" "))
            numbers = {name: int(values.pop(name)) for name in ("protocol", "measured", "images")}
            lists = {name: tuple(filter(None, values.pop(name).split(","))) for name in _LISTS}
            pairs = [part.rsplit(":", 1) for part in filter(None, values.pop("samples").split(","))]
            samples = {name: int(size) for name, size in pairs}
            found = Export(**values, **numbers, **lists, samples=samples)  # type: ignore[arg-type]
        except (ValueError, TypeError, KeyError):
            raise DataError(
                f"export is {printable(text[:60])!r}, expected the line `export` of the manifest.json of an export"
            ) from None
        return found

    def holding(self, names: np.ndarray) -> Export:
        """Return the scope with these names of images, (N,) of type `NAME`."""
        return replace(self, images=len(names), names=hash_of_names(names))


def hash_of_names(names: np.ndarray) -> str:
    """Return the SHA-256 of names in sorted order."""
    return hashlib.sha256(np.sort(names).astype(NAME).tobytes()).hexdigest()


def as_stored(pixels: np.ndarray, stored: str) -> np.ndarray:
    """Return pixels (N, C, H, W) in [0, 1] as an export stores them.

    The result is (N, C, H, W) float32, or (N, H, W, C) uint8, rounded to the nearest of 256 levels, halves to even.
    """
    if stored == FLOAT32:
        return np.ascontiguousarray(pixels, dtype="<f4")
    rounded = np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)
    return np.ascontiguousarray(rounded.transpose(0, 2, 3, 1))


def names_of(images: np.ndarray) -> np.ndarray:
    """Return the names of stored images, (N,) of type `NAME`: the SHA-256 of each image's bytes."""
    return np.array([hashlib.sha256(image.data).hexdigest() for image in images], dtype=NAME)
