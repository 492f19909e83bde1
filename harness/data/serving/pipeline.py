"""A serving pipeline: what is done to a picture before a network sees it, each stage a named setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.serving.decoders import MODULES, exact_version, levels_of
from harness.data.serving.stages import Color, Crop, Decode, Jpeg, Normalise, Orient, Scale
from harness.data.transforms import picture_of

if TYPE_CHECKING:
    from harness.data.serving.resizing import Resize
    from harness.data.transforms import Transform

STAGES = ("decode", "orient", "jpeg", "color", "resize", "crop", "scale", "normalise")
"""The stages of a pipeline, in their order."""


@dataclass(frozen=True)
class ServingPipeline:
    """Decode, orient, save as JPEG, color, resize, crop, scale and normalize: each a setting, as data.

    `decode` and `orient` are for the bytes of a file; decoded pictures skip them. `jpeg` is None where a picture is
    not saved anew. `resize` has each size that a picture passes through. `transform`, a callable of the user's, is one
    opaque stage in the place of resizing and cropping; the crop then only moves what it makes.
    """

    decode: Decode = field(default_factory=Decode)
    orient: Orient = field(default_factory=Orient)
    jpeg: Jpeg | None = None
    color: Color = field(default_factory=Color)
    resize: tuple[Resize, ...] = ()
    crop: Crop = field(default_factory=Crop)
    scale: Scale = field(default_factory=Scale)
    normalise: Normalise = field(default_factory=Normalise)
    transform: Transform | None = None
    encoded: bool = True
    """True for pictures that come as the bytes of a file; for others, the data's own pixels come first."""

    def __str__(self) -> str:
        return ", ".join(words for words in self.words.values() if words)

    @property
    def words(self) -> dict[str, str]:
        """Return each stage as text, in order, by its name."""
        opaque = "" if self.transform is None else f"{self.transform.spec} (one opaque stage)"
        resized = ", then ".join(map(str, self.resize))
        return {
            "decode": str(self.decode) if self.encoded else "pixels of the data",
            "orient": str(self.orient) if self.encoded else "",
            "jpeg": "" if self.jpeg is None else str(self.jpeg),
            "color": str(self.color),
            "resize": ", ".join(filter(None, (opaque, resized))) or "size unchanged",
            "crop": str(self.crop),
            "scale": str(self.scale),
            "normalise": str(self.normalise),
        }

    def differing(self, other: ServingPipeline) -> tuple[str, ...]:
        """Return the names of the stages in which another pipeline differs."""
        return tuple(
            stage
            for stage in STAGES
            if getattr(self, stage) != getattr(other, stage)
            or (stage == "resize" and self.transform is not other.transform)
        )

    @property
    def identity(self) -> str:
        """Return all that decides the pixels, as far as it can be known: settings, and versions of libraries."""
        import cv2
        import PIL
        import torch

        versions = f"pillow {PIL.__version__} opencv {cv2.__version__} torch {torch.__version__}"
        if (library := self.decode.library) in MODULES:
            versions += f" {library} {exact_version(library)}"
        own = {stage: getattr(self, stage) for stage in STAGES}
        return f"{own} {versions} {self.transform.identity if self.transform else ''}"

    def apply(self, picture: Any, *, network: Normalise | None = None, where: str = "a picture") -> np.ndarray:
        """Return the pixels that a network sees, (C, H, W) float32, as it takes them: in [0, 1] as a rule.

        `picture` is the bytes of a file, a PIL image, or pixels (H, W, C) uint8. `network` is the normalization that
        the network does as its first step, by default this pipeline's. Another scale or normalization is given as
        pixels: those that the network turns into the same numbers. They may lie outside of [0, 1]. Raises
        `InputError`, which names `where`, for what cannot be decoded.
        """
        pixels = self.cropped(picture, where=where)
        numbers = self.scale.apply(pixels)
        expected = self.normalise if network is None else network
        if self.normalise != expected or self.scale.precision != "float32":
            numbers = expected.undone(self.normalise.apply(numbers).astype(np.float32))
        return np.ascontiguousarray(numbers.transpose(2, 0, 1), dtype=np.float32)

    def cropped(self, picture: Any, *, where: str = "a picture") -> np.ndarray:
        """Return the pixels before they are scaled, (H, W, C) uint8."""
        pixels = self._altered(self.decoded(picture, where=where), late=False)
        if self.transform is not None:
            from PIL import Image

            flat = np.ascontiguousarray(pixels if pixels.shape[2] != 1 else np.repeat(pixels, 3, axis=2))
            pixels, _ = self.transform.pixels(Image.fromarray(flat), where=where)
        for resize in self.resize:
            pixels = resize.apply(pixels)
        return self._altered(self.crop.apply(pixels), late=True)

    def _altered(self, pixels: np.ndarray, *, late: bool) -> np.ndarray:
        """Return a picture saved as JPEG and in its colors, as far as that comes before or after resizing."""
        if self.jpeg is not None and self.jpeg.late == late:
            pixels = self.jpeg.apply(pixels)
        pixels = pixels if late else self.color.apply(pixels)
        return self.color.leveled(pixels) if self.color.late == late else pixels

    def decoded(self, picture: Any, *, where: str = "a picture") -> np.ndarray:
        """Return the decoded picture, (H, W, C) uint8."""
        if isinstance(picture, bytes):
            return self.decode.apply(picture, upright=self.orient.exif, where=where)
        if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[-1] in {1, 3}:
            return picture
        opened, _ = picture_of(picture, where=where)
        return levels_of(opened)
