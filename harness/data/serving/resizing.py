"""Resizing by Pillow, OpenCV and torch, as servers call them: the same filter has other pixels in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import PipelineError
from harness.data.serving.stages import Crop, written

if TYPE_CHECKING:
    from collections.abc import Mapping

Filter = Literal["nearest", "bilinear", "bicubic", "area", "lanczos", "hamming"]
_PILLOW = {
    "nearest": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "area": "BOX",
    "lanczos": "LANCZOS",
    "hamming": "HAMMING",
}
_OPENCV = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "area": "INTER_AREA",
    "lanczos": "INTER_LANCZOS4",
}
_TORCH = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "area": "area"}
FILTERS: Mapping[str, Mapping[str, str]] = {"pillow": _PILLOW, "opencv": _OPENCV, "torch": _TORCH}
"""The filters of each library, by our names."""
_CHOICE = {"bilinear", "bicubic"}
"""Filters that torch has both with and without antialiasing."""
_NAMES = {"pillow": "Pillow", "opencv": "OpenCV", "torch": "torch"}


def antialiasing(library: str, filtered: str) -> tuple[bool, ...]:
    """Return whether a library's filter antialiases: both where that is a choice, by default the first."""
    if library == "torch" and filtered in _CHOICE:
        return False, True
    return (filtered == "area" or (library == "pillow" and filtered != "nearest"),)


@dataclass(frozen=True)
class Resize:
    """A size that pictures are resized to, and the library and filter that do it.

    `size` is that of the shorter or the longer side, the other in proportion, or (height, width) to stretch to. Whether
    a filter antialiases is a choice in torch alone: Pillow's do but for nearest, OpenCV's do not but for area. The
    `middle` is cropped first: a share of each side, or a square of more than one pixel.
    """

    size: int | tuple[int, int]
    library: Literal["pillow", "opencv", "torch"] = "pillow"
    filter: Filter = "bilinear"
    antialias: bool = True
    side: Literal["shorter", "longer"] = "shorter"
    middle: float = 1

    def __post_init__(self) -> None:
        if self.filter not in FILTERS[self.library]:
            raise PipelineError(
                f"{self.library} has no filter {self.filter!r}; expected one of {', '.join(FILTERS[self.library])}"
            )
        if self.antialias not in antialiasing(self.library, self.filter):
            does = "never" if self.antialias else "always"
            raise PipelineError(f"{self.library}'s {self.filter} is {does} antialiased")

    def __str__(self) -> str:
        to = written(self.size) if isinstance(self.size, tuple) else f"{self.side} side {self.size}"
        how = "antialiased" if self.antialias else "not antialiased"
        part = f"{self.middle:.1%} of each side" if self.middle < 1 else f"{self.middle:g} px"
        first = "" if self.middle == 1 else f"middle {part} cropped, then "
        return f"{first}{to} {self.filter} {how} by {_NAMES[self.library]}"

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that a picture of this size is resized to, rounded down as torchvision does."""
        if isinstance(self.size, tuple):
            return self.size
        length = min(height, width) if self.side == "shorter" else max(height, width)
        return max(int(self.size * height / length), 1), max(int(self.size * width / length), 1)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return the picture (H, W, C) uint8 resized, rounded to whole levels."""
        if self.middle != 1:
            kept = [round(self.middle * (side if self.middle < 1 else 1)) for side in pixels.shape[:2]]
            pixels = Crop((kept[0], kept[1])).apply(pixels)
        height, width = self.of(*pixels.shape[:2])
        if (height, width) == pixels.shape[:2]:
            return pixels
        resized = {"pillow": self._by_pillow, "opencv": self._by_opencv, "torch": self._by_torch}[self.library](
            np.ascontiguousarray(pixels), height, width
        )
        return resized if resized.ndim == 3 else resized[..., None]  # noqa: PLR2004  Color.

    def _by_pillow(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        from PIL import Image

        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return np.array(picture.resize((width, height), Image.Resampling[_PILLOW[self.filter]]))

    def _by_opencv(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        import cv2

        return np.asarray(cv2.resize(pixels, (width, height), interpolation=getattr(cv2, _OPENCV[self.filter])))

    def _by_torch(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        import torch

        floats = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        choice = self.filter in _CHOICE
        resized = torch.nn.functional.interpolate(
            floats,
            (height, width),
            mode=_TORCH[self.filter],
            align_corners=False if choice else None,
            antialias=self.antialias and choice,
        )
        return np.asarray(resized[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
