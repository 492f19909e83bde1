"""Stages of decoded pictures: color, resizing, cropping, scaling and normalizing, each a setting and what it does.

Arrays are (H, W, C) uint8 until `Scale`, with one channel or three in the order red, green, blue. A filter has other
pixels in each library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import LATE, as_picture, in_channels, levels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

COLOR: Final = 3
Filter = Literal["nearest", "bilinear", "bicubic", "area", "lanczos", "hamming"]
FILTERS: Mapping[str, Mapping[Filter, str]] = {
    "pillow": {name: "BOX" if name == "area" else name.upper() for name in get_args(Filter)},
    "opencv": dict(
        zip(get_args(Filter), ("NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4"), strict=False)
    ),
    "torch": {name: name for name in get_args(Filter)[:4]},
}
"""The filters of each library by our names, with the library's own."""
_NAMES = {"pillow": "Pillow", "opencv": "OpenCV", "torch": "torch"}


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
        return (
            kind
            + gamma
            + (", levels 16-235" if self.levels == "video" else "")
            + (LATE if self.late else "")
        )

    def apply(self, picture: Image) -> Image:
        """Return a picture in these channels, as gray or RGB."""
        picture = in_channels(picture, self.channels)
        if self.gray:
            picture = in_channels(picture.convert("L"), len(picture.getbands()))
        return as_picture(levels_of(picture)[..., ::-1]) if self.order == "BGR" else picture

    def leveled(self, picture: Image) -> Image:
        """Return the picture in these levels."""
        if self.gamma == 1 and self.levels == "full":
            return picture
        return as_picture(_levels(self.gamma, self.levels)[levels_of(picture)])


def antialiasing(library: str, filtered: str) -> tuple[bool, ...]:
    """Return whether a library's filter antialiases: both where that is a choice, by default the first."""
    if library == "torch" and filtered in {"bilinear", "bicubic"}:
        return False, True
    return (filtered == "area" or (library == "pillow" and filtered != "nearest"),)


@dataclass(frozen=True)
class Resize:
    """A size that pictures are resized to, and the library and filter that do it.

    `size` is that of the shorter or the longer side, the other in proportion, or (height, width) to stretch to. Whether
    a filter antialiases is a choice in torch alone: Pillow's do but for nearest, OpenCV's do not but for area. The
    `middle` is cropped first: a share of each side, or a square of more than one pixel. `stretch` multiplies the height
    and the width of that size.
    """

    size: int | tuple[int, int]
    library: Literal["pillow", "opencv", "torch"] = "pillow"
    filter: Filter = "bilinear"
    antialias: bool = True
    side: Literal["shorter", "longer"] = "shorter"
    middle: float = 1
    stretch: tuple[float, float] = (1.0, 1.0)

    def __str__(self) -> str:
        to = written(self.size) if isinstance(self.size, tuple) else f"{self.side} side {self.size}"
        how = "antialiased" if self.antialias else "not antialiased"
        part = f"{self.middle:.1%} of each side" if self.middle < 1 else f"{self.middle:g} px"
        first = "" if self.middle == 1 else f"middle {part} cropped, then "
        return f"{first}{to}{self._stretched} {self.filter} {how} by {_NAMES[self.library]}"

    @property
    def _stretched(self) -> str:
        named = zip(("vertically", "horizontally"), self.stretch, strict=True)
        factors = [f"{way} to {factor:.1%}" for way, factor in named if factor != 1]
        return f" stretched {' and '.join(factors)}" if factors else ""

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that a picture of this size is resized to, rounded down as torchvision does."""
        if isinstance(self.size, tuple):
            new_height, new_width = self.size
        else:
            length = min(height, width) if self.side == "shorter" else max(height, width)
            new_height, new_width = (
                max(int(self.size * side / length), 1) for side in (height, width)
            )
        if self.stretch == (1.0, 1.0):
            return new_height, new_width
        vertical, horizontal = self.stretch
        return max(round(new_height * vertical), 1), max(round(new_width * horizontal), 1)

    def apply(self, picture: Image) -> Image:
        """Return a picture resized, with whole levels."""
        if self.middle != 1:
            kept = [
                self.middle * (side if self.middle < 1 else 1)
                for side in (picture.height, picture.width)
            ]
            picture = Crop((round(kept[0]), round(kept[1]))).apply(picture)
        height, width = self.of(picture.height, picture.width)
        if (width, height) == picture.size:
            return picture
        named = FILTERS[self.library][self.filter]
        if self.library == "pillow":
            from PIL.Image import Resampling

            return picture.resize((width, height), Resampling[named])
        pixels = levels_of(picture)
        if self.library == "opencv":
            import cv2

            return as_picture(
                cv2.resize(pixels, (width, height), interpolation=getattr(cv2, f"INTER_{named}"))
            )
        import torch

        choice = len(antialiasing(self.library, self.filter)) > 1
        floats = torch.nn.functional.interpolate(
            torch.tensor(pixels).permute(2, 0, 1)[None].float(),
            (height, width),
            mode=named,
            align_corners=False if choice else None,
            antialias=self.antialias and choice,
        )
        return as_picture(floats[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())


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
        off = [
            f"{abs(by)} px {way if by > 0 else opposite[way]}" for way, by in moves.items() if by
        ]
        return " ".join([kept, *(["moved", *off] if off else [])]) + (
            f" on gray {self.fill}" if self.fill else ""
        )

    def apply(self, picture: Image) -> Image:
        """Return the part that is kept; the same as torchvision's center crop where it is not moved."""
        if self == Crop():
            return picture
        from PIL import Image

        whole = picture.height, picture.width
        size, moves = self.size or whole, (self.down, self.right)
        top, left = (
            round((max(kept, side) - kept) / 2) - max(kept - side, 0) // 2 + move
            for side, kept, move in zip(whole, size, moves, strict=True)
        )
        made = Image.new(picture.mode, size[::-1], (self.fill,) * len(picture.getbands()))
        made.paste(picture, (-left, -top))
        return made


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
        return f"{cut}/{self.divisor:g}{offset}" + (
            " in float16" if self.precision == "float16" else ""
        )

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
            raise PipelineError(
                f"mean {self.mean} and std {self.std}: expected as many of both, and no std of 0"
            )

    def __str__(self) -> str:
        known = next((name for name, values in NORMALISATIONS.items() if values == self), "")
        if known:
            return known
        mean, std = (
            ", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std)
        )
        return f"mean {mean} and std {std}"

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Return normalized numbers (H, W, C), in their precision."""
        kind = numbers.dtype.type
        return np.asarray((numbers - np.asarray(self.mean, kind)) / np.asarray(self.std, kind))

    def undone(self, numbers: np.ndarray) -> np.ndarray:
        """Return the pixels (H, W, C) that a network with this normalization makes these numbers of."""
        return np.asarray(
            numbers * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        )


NORMALISATIONS: Mapping[str, Normalise] = {
    "no normalization": Normalise(),
    "ImageNet mean and std": Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP mean and std": Normalise(
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
    "CIFAR-10 mean and std": Normalise((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "MNIST mean and std": Normalise((0.1307,), (0.3081,)),
    "Fashion-MNIST mean and std": Normalise((0.2860,), (0.3530,)),
    "mean 0.5 and std 0.5": Normalise((0.5,), (0.5,)),
}
"""Normalizations with a name."""


def written(size: tuple[int, int]) -> str:
    """Return a size (height, width) as people write it: one number for a square."""
    return f"{size[0]}" if size[0] == size[1] else f"{size[0]}x{size[1]}"


@cache
def _levels(gamma: float, kind: str) -> np.ndarray:
    """Return the level that each of 256 levels becomes, (256,) uint8."""
    levels = (np.arange(256) / 255) ** gamma
    return np.rint(16 + 219 * levels if kind == "video" else 255 * levels).astype(np.uint8)
