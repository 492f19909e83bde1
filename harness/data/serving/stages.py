"""The stages of a serving pipeline: each a frozen setting, what it does to an array, and its words in a report.

Arrays are (H, W, C) uint8 until `Scale`, with one channel or three in the order red, green, blue.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import read_picture
from harness.data.serving.decoders import decoded_by, version_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.data.serving.decoders import Library

COLOR = 3
_SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
_LATE = " after resizing"


@dataclass(frozen=True)
class Decode:
    """The library that decodes a file, at one of `reduced` times its size in each direction: 1, 2, 4 or 8."""

    library: Library = "pillow"
    reduced: int = 1

    def __str__(self) -> str:
        return version_of(self.library) + (f" at 1/{self.reduced} size" if self.reduced != 1 else "")

    def apply(self, content: bytes, *, upright: bool, where: str) -> np.ndarray:
        """Return the picture in a file, (H, W, C) uint8, turned as its EXIF says if `upright`."""
        return decoded_by(self.library, content, reduced=self.reduced, upright=upright, where=where)


@dataclass(frozen=True)
class Jpeg:
    """A picture saved as JPEG and read again, as a client or a proxy does that sends it on; `late` after resizing."""

    quality: int
    subsampling: Subsampling = "4:2:0"
    late: bool = False

    def __str__(self) -> str:
        return f"JPEG {self.quality} {self.subsampling}{_LATE if self.late else ''}"

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return what is read of the saved picture, by Pillow."""
        from PIL import Image

        file = io.BytesIO()
        gray = pixels.shape[2] == 1
        settings: dict[str, Any] = {} if gray else {"subsampling": _SUBSAMPLINGS[self.subsampling]}
        Image.fromarray(pixels[..., 0] if gray else pixels).save(file, "JPEG", quality=self.quality, **settings)
        read = np.array(read_picture(file.getvalue()))
        return read[..., None] if gray else read


@dataclass(frozen=True)
class Orient:
    """The use of the EXIF orientation: a picture follows it, or stays as stored."""

    exif: bool = True

    def __str__(self) -> str:
        return "EXIF applied" if self.exif else "EXIF ignored"


@dataclass(frozen=True)
class Color:
    """The channels of a picture, their order, and the levels that stand for black, gray and white.

    `channels` is 1, 3, or None for as in the file. `gray` makes color pictures gray and keeps their channels. `gamma`
    is the power that levels in [0, 1] are raised to. `levels` of video run from 16 to 235. Both are `late` after
    resizing.
    """

    channels: Literal[1, 3] | None = None
    order: Literal["RGB", "BGR"] = "RGB"
    gray: bool = False
    gamma: float = 1.0
    levels: Literal["full", "video"] = "full"
    late: bool = False

    def __str__(self) -> str:
        kind = {1: "gray", 3: self.order, None: "channels as in the file"}[self.channels]
        kind = f"{kind} made gray" if self.gray else kind
        gamma = f", gamma {self.gamma:g}" if self.gamma != 1 else ""
        return kind + gamma + (", levels 16-235" if self.levels == "video" else "") + (_LATE if self.late else "")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the picture in these channels."""
        if self.channels is not None:
            pixels = _with_channels(pixels, self.channels)
        if self.gray and pixels.shape[2] == COLOR:
            pixels = np.repeat(_with_channels(pixels, 1), COLOR, axis=2)
        return pixels[..., ::-1] if self.order == "BGR" else pixels

    def leveled(self, pixels: np.ndarray) -> np.ndarray:
        """Return the picture in these levels."""
        if self.gamma == 1 and self.levels == "full":
            return pixels
        return np.asarray(_levels(self.gamma, video=self.levels == "video")[pixels])


@dataclass(frozen=True)
class Crop:
    """The part of a picture that is kept: the middle of `size` (height, width), moved `right` and `down` by pixels.

    Without a size it is as large as the picture. Pixels beyond the picture have the level `fill`.
    """

    size: tuple[int, int] | None = None
    right: int = 0
    down: int = 0
    fill: int = 0

    def __str__(self) -> str:
        whole = "whole picture" if self.right or self.down else "uncropped"
        kept = whole if self.size is None else f"center crop {written(self.size)}"
        moves = {"right": self.right, "down": self.down}
        opposite = {"right": "left", "down": "up"}
        off = [f"{abs(by)} px {way if by > 0 else opposite[way]}" for way, by in moves.items() if by]
        return " ".join([kept, *(["moved", *off] if off else [])]) + (f" on gray {self.fill}" if self.fill else "")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the part that is kept; the same as torchvision's center crop where it is not moved."""
        if self == Crop():
            return pixels
        height, width = self.size or pixels.shape[:2]
        top, left = max(height - pixels.shape[0], 0) // 2, max(width - pixels.shape[1], 0) // 2
        high, wide = max(height, pixels.shape[0]), max(width, pixels.shape[1])
        # The window in the picture's own rows and columns; what lies outside is filled.
        first_row = round((high - height) / 2) - top + self.down
        first_column = round((wide - width) / 2) - left + self.right
        kept = np.full((height, width, pixels.shape[2]), self.fill, dtype=pixels.dtype)
        rows = slice(max(first_row, 0), min(first_row + height, pixels.shape[0]))
        columns = slice(max(first_column, 0), min(first_column + width, pixels.shape[1]))
        if rows.start < rows.stop and columns.start < columns.stop:
            at_row, at_column = rows.start - first_row, columns.start - first_column
            part = pixels[rows, columns]
            kept[at_row : at_row + part.shape[0], at_column : at_column + part.shape[1]] = part
        return kept


@dataclass(frozen=True)
class Scale:
    """Numbers made of levels 0 to 255: cut to `bits`, divided by `divisor`, plus `offset`, in a precision."""

    divisor: float = 255.0
    offset: float = 0.0
    bits: int = 8
    precision: Literal["float32", "float16"] = "float32"

    def __str__(self) -> str:
        cut = f"{self.bits} bits, " if self.bits != 8 else ""  # noqa: PLR2004  Of a byte.
        offset = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}" if self.offset else ""
        return f"{cut}/{self.divisor:g}{offset}" + (" in float16" if self.precision == "float16" else "")

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the numbers, float32, or float16 where that is the precision."""
        if self.bits != 8:  # noqa: PLR2004  As above.
            step = 1 << (8 - self.bits)
            pixels = (pixels // step) * step
        kind = np.dtype(self.precision).type
        return np.asarray(pixels.astype(kind) / kind(self.divisor) + kind(self.offset))


@dataclass(frozen=True)
class Normalise:
    """The mean that is taken from each channel, and the standard deviation that it is divided by."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or 0 in self.std:
            raise PipelineError(f"mean {self.mean} and std {self.std}: expected as many of both, and no std of 0")

    def __str__(self) -> str:
        known = next((name for name, values in NORMALISATIONS.items() if values == self), "")
        if known:
            return known
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} and std {std}"

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Return normalized numbers (H, W, C), in their precision."""
        kind = numbers.dtype.type
        return np.asarray((numbers - np.asarray(self.mean, kind)) / np.asarray(self.std, kind))

    def undone(self, numbers: np.ndarray) -> np.ndarray:
        """Return the pixels (H, W, C) that a network with this normalization makes these numbers of."""
        return np.asarray(numbers * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32))


NORMALISATIONS: Mapping[str, Normalise] = {
    "no normalization": Normalise(),
    "ImageNet mean and std": Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP mean and std": Normalise((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "CIFAR-10 mean and std": Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST mean and std": Normalise((0.1307,), (0.3081,)),
    "Fashion-MNIST mean and std": Normalise((0.2860,), (0.3530,)),
    "mean 0.5 and std 0.5": Normalise((0.5,), (0.5,)),
}
"""Normalizations with a name."""


def written(size: tuple[int, int]) -> str:
    """Return a size (height, width) as people write it: one number for a square."""
    return f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return a picture with one channel or three, gray by Pillow's weights."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == COLOR:
        return np.repeat(pixels, COLOR, axis=2)
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


@cache
def _levels(gamma: float, *, video: bool) -> np.ndarray:
    """Return the level that each of 256 levels becomes, (256,) uint8."""
    levels = (np.arange(256) / 255) ** gamma
    return np.asarray(np.rint(16 + 219 * levels if video else 255 * levels).astype(np.uint8))
