"""Stages of decoded pictures: color, resizing, cropping, scaling and normalizing.

Each is a setting, as data, with a method that does it. Arrays are (H, W, C) uint8 until `Scale`,
with one channel or three in the order red, green, blue. A filter has other pixels in each library.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import LATE, as_picture, in_channels, levels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

COLOR: Final = 3
Filter = Literal["nearest", "bilinear", "bicubic", "area", "lanczos", "hamming"]
FILTERS: Mapping[str, Mapping[Filter, str]] = {
    "pillow": {
        "nearest": "NEAREST",
        "bilinear": "BILINEAR",
        "bicubic": "BICUBIC",
        "area": "BOX",
        "lanczos": "LANCZOS",
        "hamming": "HAMMING",
    },
    "opencv": {
        "nearest": "NEAREST",
        "bilinear": "LINEAR",
        "bicubic": "CUBIC",
        "area": "AREA",
        "lanczos": "LANCZOS4",
    },
    "torch": {
        "nearest": "nearest",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "area": "area",
    },
}
"""The filters of each library by the harness's names, with the library's own."""
_BYTE = 8
"""Bits of a level."""
_NAMES = {"pillow": "Pillow", "opencv": "OpenCV", "torch": "torch"}


@dataclass(frozen=True)
class Color:
    """The channels of a picture, their order, and the levels that stand for black, gray and white.

    Attributes:
        channels: 1, 3, or None for as in the file.
        order: The order of the channels.
        gray: Make color pictures gray, and keep their channels.
        gamma: The power that levels in [0, 1] are raised to.
        levels: The range of levels; those of video run from 16 to 235.
        late: Apply gamma and levels after resizing.
    """

    channels: Literal[1, 3] | None = None
    order: Literal["RGB", "BGR"] = "RGB"
    gray: bool = False
    gamma: float = 1.0
    levels: Literal["full", "video"] = "full"
    late: bool = False

    def __str__(self) -> str:
        words = {1: "gray", 3: self.order, None: "channels as in the file"}[self.channels]
        if self.gray:
            words += " made gray"
        if self.gamma != 1:
            words += f", gamma {self.gamma:g}"
        if self.levels == "video":
            words += ", levels 16-235"
        if self.late:
            words += LATE
        return words

    def apply(self, picture: Image) -> Image:
        """Return a picture in these channels, as gray or RGB."""
        picture = in_channels(picture, self.channels)
        if self.gray:
            channels = len(picture.getbands())
            picture = in_channels(picture.convert("L"), channels)
        if self.order == "BGR":
            picture = as_picture(levels_of(picture)[..., ::-1])
        return picture

    def leveled(self, picture: Image) -> Image:
        """Return the picture in these levels."""
        if self.gamma == 1 and self.levels == "full":
            return picture
        new_levels = _levels(self.gamma, self.levels)
        return as_picture(new_levels[levels_of(picture)])


def antialiasing(library: str, filtered: str) -> tuple[bool, ...]:
    """Return whether a library's filter antialiases.

    Where that is a choice, the result has both values, the default first.
    """
    if library == "torch" and filtered in {"bilinear", "bicubic"}:
        return False, True
    if library == "pillow":
        return (filtered != "nearest",)
    return (filtered == "area",)


@dataclass(frozen=True)
class Resize:
    """A size that pictures are resized to, and the library and filter that do it.

    Attributes:
        size: The length of a side, the other in proportion, or (height, width) to stretch to.
        library: The library that resizes; torch as torchvision does for tensors.
        filter: The filter, one of the library's in `FILTERS`.
        antialias: Whether it antialiases, which is a choice in torch alone. Pillow's filters do but
            for nearest, OpenCV's do not but for area.
        side: The side that a single length is of.
        middle: What is cropped first: a share of each side, or a square of more than one pixel.
        stretch: Factors of the height and the width of that size.
    """

    size: int | tuple[int, int]
    library: Literal["pillow", "opencv", "torch"] = "pillow"
    filter: Filter = "bilinear"
    antialias: bool = True
    side: Literal["shorter", "longer"] = "shorter"
    middle: float = 1
    stretch: tuple[float, float] = (1.0, 1.0)

    def __str__(self) -> str:
        size = f"{self.side} side {self.size}"
        if isinstance(self.size, tuple):
            size = written(self.size)
        smooth = "not antialiased"
        if self.antialias:
            smooth = "antialiased"
        library = _NAMES[self.library]
        return f"{self._cropped}{size}{self._stretched} {self.filter} {smooth} by {library}"

    @property
    def _cropped(self) -> str:
        if self.middle == 1:
            return ""
        part = f"{self.middle:g} px"
        if self.middle < 1:
            part = f"{self.middle:.1%} of each side"
        return f"middle {part} cropped, then "

    @property
    def _stretched(self) -> str:
        vertical, horizontal = self.stretch
        factors = []
        if vertical != 1:
            factors.append(f"vertically to {vertical:.1%}")
        if horizontal != 1:
            factors.append(f"horizontally to {horizontal:.1%}")
        if not factors:
            return ""
        return f" stretched {' and '.join(factors)}"

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that a picture of this size is resized to.

        The longer side is rounded down, as by torchvision's `Resize`.
        """
        if isinstance(self.size, tuple):
            new_height, new_width = self.size
        else:
            length = max(height, width)
            if self.side == "shorter":
                length = min(height, width)
            new_height = max(int(self.size * height / length), 1)
            new_width = max(int(self.size * width / length), 1)
        if self.stretch == (1.0, 1.0):
            return new_height, new_width
        vertical, horizontal = self.stretch
        return max(round(new_height * vertical), 1), max(round(new_width * horizontal), 1)

    def apply(self, picture: Image) -> Image:
        """Return a picture resized, with whole levels."""
        if self.middle != 1:
            picture = self._middle_of(picture)
        height, width = self.of(picture.height, picture.width)
        if (width, height) == picture.size:
            return picture
        if self.library == "pillow":
            return self._by_pillow(picture, height, width)
        if self.library == "opencv":
            return self._by_opencv(picture, height, width)
        return self._by_torch(picture, height, width)

    def _middle_of(self, picture: Image) -> Image:
        if self.middle < 1:
            size = round(self.middle * picture.height), round(self.middle * picture.width)
        else:
            size = round(self.middle), round(self.middle)
        return Crop(size).apply(picture)

    def _by_pillow(self, picture: Image, height: int, width: int) -> Image:
        from PIL.Image import Resampling

        return picture.resize((width, height), Resampling[FILTERS["pillow"][self.filter]])

    def _by_opencv(self, picture: Image, height: int, width: int) -> Image:
        import cv2

        interpolation = getattr(cv2, f"INTER_{FILTERS['opencv'][self.filter]}")
        pixels = cv2.resize(levels_of(picture), (width, height), interpolation=interpolation)
        return as_picture(pixels)

    def _by_torch(self, picture: Image, height: int, width: int) -> Image:
        import torch

        # Contiguous, since torch's antialiasing differs by the memory's order if the width is 1.
        # Floats, since torchvision resizes uint8 by another algorithm on some processors.
        pixels = torch.tensor(levels_of(picture)).permute(2, 0, 1).contiguous().float()
        if self.filter == "area":  # Torchvision does not have it.
            resized = torch.nn.functional.interpolate(pixels[None], (height, width), mode="area")[0]
        else:
            # Imported here, since it takes as long as the import of torch.
            from torchvision.transforms import InterpolationMode
            from torchvision.transforms.v2 import functional

            interpolation = InterpolationMode(FILTERS["torch"][self.filter])
            resized = functional.resize(
                pixels, [height, width], interpolation, antialias=self.antialias
            )
        levels = resized.round().clamp(0, 255).to(torch.uint8)
        return as_picture(levels.permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Crop:
    """The part of a picture that is kept: its middle, or a part beside it.

    Attributes:
        size: The (height, width) of the part, None for that of the picture.
        right: Its move to the right in pixels.
        down: Its move down in pixels.
        fill: The level of pixels beyond the picture.
    """

    size: tuple[int, int] | None = None
    right: int = 0
    down: int = 0
    fill: int = 0

    def __str__(self) -> str:
        words = []
        if self.size is not None:
            words.append(f"center crop {written(self.size)}")
        elif self.right or self.down:
            words.append("whole picture")
        else:
            words.append("uncropped")

        if self.right or self.down:
            words.append("moved")
        if self.right > 0:
            words.append(f"{self.right} px right")
        elif self.right < 0:
            words.append(f"{-self.right} px left")
        if self.down > 0:
            words.append(f"{self.down} px down")
        elif self.down < 0:
            words.append(f"{-self.down} px up")
        if self.fill:
            words.append(f"on gray {self.fill}")
        return " ".join(words)

    def apply(self, picture: Image) -> Image:
        """Return the part that is kept.

        It is the same as by torchvision's `center_crop`, which neither moves the part nor fills
        pixels with a level.
        """
        if self == Crop():
            return picture
        from PIL import Image

        height, width = self.size or (picture.height, picture.width)
        top = _start_of_middle(picture.height, height) + self.down
        left = _start_of_middle(picture.width, width) + self.right
        background = (self.fill,) * len(picture.getbands())
        cropped = Image.new(picture.mode, (width, height), background)
        cropped.paste(picture, (-left, -top))
        return cropped


def _start_of_middle(length: int, kept: int) -> int:
    """Return where the middle of a side begins, negative beyond the picture.

    It rounds as torchvision does, which pads a shorter picture before it crops.
    """
    padding = max(kept - length, 0) // 2
    return round((max(kept, length) - kept) / 2) - padding


@dataclass(frozen=True)
class Scale:
    """Numbers made of levels 0 to 255, in a precision.

    Levels are cut to `bits`, divided by `divisor`, and `offset` is added.
    """

    divisor: float = 255.0
    offset: float = 0.0
    bits: int = 8
    precision: Literal["float32", "float16"] = "float32"

    def __str__(self) -> str:
        words = f"/{self.divisor:g}"
        if self.bits != _BYTE:
            words = f"{self.bits} bits, {words}"
        if self.offset > 0:
            words += f" + {self.offset:g}"
        elif self.offset:
            words += f" - {abs(self.offset):g}"
        if self.precision == "float16":
            words += " in float16"
        return words

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the numbers, float32, or float16 where that is the precision."""
        if self.bits != _BYTE:
            step = 1 << (_BYTE - self.bits)
            pixels = (pixels // step) * step
        number = np.dtype(self.precision).type
        scaled = pixels.astype(number) / number(self.divisor)
        return np.asarray(scaled + number(self.offset))


@dataclass(frozen=True)
class Normalise:
    """The mean that is taken from each channel, and the standard deviation that divides it."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or 0 in self.std:
            raise PipelineError(
                f"mean {self.mean} and std {self.std}: expected as many of both, and no std of 0"
            )

    def __str__(self) -> str:
        for name, normalization in NORMALISATIONS.items():
            if normalization == self:
                return name
        mean = ", ".join(f"{value:.4g}" for value in self.mean)
        std = ", ".join(f"{value:.4g}" for value in self.std)
        return f"mean {mean} and std {std}"

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """Return normalized numbers (H, W, C), in their precision.

        They are the same as by torchvision's `normalize`.
        """
        # In NumPy, since the import of torchvision takes as long as that of torch.
        mean = np.asarray(self.mean, numbers.dtype)
        std = np.asarray(self.std, numbers.dtype)
        return np.asarray((numbers - mean) / std)

    def undone(self, numbers: np.ndarray) -> np.ndarray:
        """Return the pixels (H, W, C) that this normalization turns into these numbers."""
        mean = np.asarray(self.mean, np.float32)
        std = np.asarray(self.std, np.float32)
        return np.asarray(numbers * std + mean)


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
    height, width = size
    if height == width:
        return f"{height}"
    return f"{height}x{width}"


@cache
def _levels(gamma: float, kind: str) -> np.ndarray:
    """Return the level that each of 256 levels becomes, (256,) uint8."""
    shares = (np.arange(256) / 255) ** gamma
    levels = 255 * shares
    if kind == "video":
        levels = 16 + 219 * shares
    return np.rint(levels).astype(np.uint8)
