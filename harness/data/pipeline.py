"""Pipeline from a picture to the pixels of one image: resize, crop and channels, or the user's transform."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import channels_of, has_transparency, read_picture, resize_masks
from harness.data.transforms import picture_of, pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.data.images import LabelledImages
    from harness.data.parallel import Spread
    from harness.data.transforms import Transform

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
"""Interpolations for resizing, by Pillow's names."""
_WITHOUT_ANTIALIAS = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
_MODES = {1: "L", 3: "RGB"}
_ROUNDED = 1e-2
"""Distance from a whole level of 255 above which a value counts as rounded; float32 arithmetic errs by less."""


@dataclass(frozen=True)
class DecodedPicture:
    """One decoded picture: its pixels, (H, W, C) uint8, and notices about it.

    `stretched` is the ratio of the new aspect ratio to the old, or its inverse, at least 1. `rounded` is true if some
    value was not a whole level of 255.
    """

    pixels: np.ndarray
    transparent: bool = False
    stretched: float = 1.0
    rounded: bool = False


@dataclass(frozen=True)
class Pipeline:
    """Steps for every picture; None leaves a property unchanged.

    `size` is the (height, width) that pictures are stretched to. `resize` is the new length of the shorter side; the
    other follows in proportion. `crop` is the (height, width) of the center that remains, with black around a smaller
    picture. `transform` replaces all other steps. Raises `InputError` for contradictory steps.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    resize: int | None = None
    crop: tuple[int, int] | None = None
    interpolation: str | None = None
    antialias: bool = True
    transform: Transform | None = None
    spread: Spread | None = field(default=None, compare=False, repr=False)
    """Decodes many pictures in other processes; without effect on the pixels. None to decode here."""

    def expect_alone(self, transform: str | None) -> None:
        """Raise `InputError` if another step is given together with a transform, named by its specification."""
        given = {
            "size": self.size,
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
            "antialias no": None if self.antialias else "no",
            "channels": self.channels,
        }
        named = [name for name, value in given.items() if value is not None]
        if transform is not None and named:
            raise PipelineError(
                f"the transform makes the pixels of the unchanged RGB picture; remove {named[0]}, or make it a step of "
                "the transform",
                setting=f"transform {transform} and {named[0]}",
            )

    def __post_init__(self) -> None:
        if self.size is not None and (self.resize or self.crop):
            other = "resize" if self.resize else "crop"
            raise PipelineError(
                "size stretches images, the other keeps their proportions; give one of the two",
                setting=f"size and {other}",
            )
        if (self.interpolation is not None or not self.antialias) and self.size is None and self.resize is None:
            setting = "interpolation" if self.interpolation else "antialias"
            raise PipelineError("has an effect only with resize or size; set one of these too", setting=setting)
        if self.interpolation not in {None, *INTERPOLATIONS}:
            raise PipelineError(
                f"expected one of {', '.join(INTERPOLATIONS)}", setting=f"interpolation {self.interpolation}"
            )
        if not self.antialias and self._interpolation not in _WITHOUT_ANTIALIAS:
            raise PipelineError(
                f"{self._interpolation} is always antialiased; expected one of {', '.join(_WITHOUT_ANTIALIAS)}",
                setting="antialias no",
            )

    @property
    def changes_nothing(self) -> bool:
        """Return whether the pipeline has no step."""
        return self == Pipeline()

    @property
    def in_words(self) -> str:
        """Return a description of the steps in order; empty without any."""
        if self.transform is not None:
            return f"{self.transform.spec} ({self.transform.about})"
        how = self._interpolation + ("" if self.antialias else ", not antialiased")
        steps = [
            None if self.size is None else f"resized to {self.size[0]}x{self.size[1]} ({how})",
            None if self.resize is None else f"shorter side resized to {self.resize} ({how})",
            None if self.crop is None else f"middle {self.crop[0]}x{self.crop[1]} kept",
            None if self.channels is None else {1: "grey", 3: "colour"}[self.channels],
        ]
        return ", ".join(step for step in steps if step)

    @property
    def identity(self) -> str:
        """Return a text that differs between pipelines, with the versions and known source of their code."""
        import PIL

        own = f"{self.in_words} pillow {PIL.__version__}"
        if not self.antialias:
            import torch

            own += f" torch {torch.__version__}"
        return own if self.transform is None else f"{own} {self.transform.identity}"

    def apply(self, picture: Any, *, where: str) -> DecodedPicture:
        """Return the decoded picture for a PIL image, array or tensor of `Pictures.read`.

        Raises `InputError`, which names `where`, for another object and for an invalid result of a transform.
        """
        if self.transform is not None:
            opened, _ = picture_of(picture, where=where)
            pixels, rounded = self.transform.pixels(opened.convert("RGB"), where=where)
            return DecodedPicture(pixels, has_transparency(opened), rounded=rounded)
        if self.changes_nothing and not hasattr(picture, "convert"):
            pixels, off_grid = pixels_of(picture, where=where)
            return DecodedPicture(pixels, rounded=off_grid > _ROUNDED)
        opened, off_grid = picture_of(picture, where=where)
        stretched = 1.0
        if self.size is not None:
            ratio = (opened.width * self.size[0]) / (opened.height * self.size[1])
            stretched = max(ratio, 1 / ratio)
        made = self._made(opened.convert(_MODES[self.channels or channels_of(opened)]))
        pixels = np.asarray(made)
        return DecodedPicture(
            pixels if pixels.ndim == 3 else pixels[..., None],  # noqa: PLR2004  Color.
            has_transparency(opened),
            stretched,
            off_grid > _ROUNDED,
        )

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (N, H, W) bool after the same steps as the images, by nearest neighbors."""
        if self.transform is not None:
            raise PipelineError(
                "the data have object masks, and a transform cannot be applied to these; use resize and crop, or "
                "remove the masks from the data",
                setting=f"transform {self.transform.spec}",
            )
        masks = resize_masks(masks, self.size or self._in_proportion(*masks.shape[1:]))
        if self.crop is None:
            return masks
        from PIL import Image

        return np.stack([np.asarray(_middle(Image.fromarray(mask), self.crop)) for mask in masks])

    @property
    def _interpolation(self) -> str:
        # Bilinear with antialiasing equals torchvision's Resize.
        return self.interpolation or "bilinear"

    def _made(self, picture: Image) -> Image:
        if self.size is not None:
            picture = self._resized(picture, self.size)
        if (size := self._in_proportion(picture.height, picture.width)) is not None:
            picture = self._resized(picture, size)
        return picture if self.crop is None else _middle(picture, self.crop)

    def _in_proportion(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the (height, width) with the shorter side `resize`, the longer rounded down as in torchvision."""
        if self.resize is None:
            return None
        shorter = min(height, width)
        return int(self.resize * height / shorter), int(self.resize * width / shorter)

    def _resized(self, picture: Image, size: tuple[int, int]) -> Image:
        from PIL import Image

        height, width = size
        if (height, width) == (picture.height, picture.width):
            return picture
        if self.antialias:
            return picture.resize((width, height), Image.Resampling[self._interpolation.upper()])
        import torch

        mode = _WITHOUT_ANTIALIAS[self._interpolation]
        corners = None if mode == "nearest" else False
        pixels = torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1)
        floats = pixels.permute(2, 0, 1)[None].float()
        resized = torch.nn.functional.interpolate(floats, (height, width), mode=mode, align_corners=corners)
        array = resized[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)


def _middle(picture: Image, crop: tuple[int, int]) -> Image:
    """Return the center of a picture, with black around a smaller one; the same pixels as torchvision's."""
    from PIL import Image

    height, width = crop
    left, top = max(width - picture.width, 0) // 2, max(height - picture.height, 0) // 2
    if left or top or width > picture.width or height > picture.height:
        canvas = Image.new(picture.mode, (max(width, picture.width), max(height, picture.height)))
        canvas.paste(picture, (left, top))
        picture = canvas
    top, left = round((picture.height - height) / 2), round((picture.width - width) / 2)
    return picture.crop((left, top, left + width, top + height))


def pixels_like(images: LabelledImages, content: bytes, pipeline: Pipeline, *, where: str) -> np.ndarray:
    """Return the pixels of an encoded picture after the pipeline, (C, H, W) uint8, in the shape of `images`.

    Unless the pipeline sets the channels, they are those of the images. Raises `InputError`, which names `where`, for
    bytes in no documented format and for pixels of another size.
    """
    channels, height, width = images.pixels.shape[1:]
    if pipeline.transform is None and pipeline.channels is None:
        pipeline = replace(pipeline, channels=channels)
    pixels = pipeline.apply(read_picture(content, where=where), where=where).pixels.transpose(2, 0, 1)
    if pixels.shape != (channels, height, width):
        made = f"of {pixels.shape[1]}x{pixels.shape[2]} pixels"
        raise PipelineError(
            f"{where}: is {made}, the images of the data are {height}x{width} (channels: {channels}). Give a picture "
            "of that size, or set the pipeline (size, resize, transform)"
        )
    return np.ascontiguousarray(pixels)
