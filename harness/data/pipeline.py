"""The pipeline from a picture to what a network sees, stage by stage: of the data's options, and of any server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import (
    Decode,
    Jpeg,
    Orient,
    as_picture,
    exact_version,
    has_transparency,
    in_channels,
    levels_of,
    resize_masks,
)
from harness.data.stages import COLOR, Color, Crop, Normalise, Resize, Scale, size_of, with_channels
from harness.data.transforms import pixels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from harness.data.transforms import Transform

STAGES = ("decode", "orient", "jpeg", "color", "resize", "crop", "scale", "normalise")
"""The stages of a pipeline, in their order."""
_WITHOUT_ANTIALIAS = ("nearest", "bilinear", "bicubic")
_FILTERS = {"box": "area"}
"""Names of Pillow's filters that are others here."""
_ROUNDED = 1e-2
"""Distance from a whole level of 255 above which a value counts as rounded; float32 arithmetic errs by less."""
_TO_TENSOR = {"ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage"}
_TO_FLOATS = {"ConvertImageDtype", "ToDtype"}


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

    @property
    def steps(self) -> str:
        """Return the steps that the options of the data name, as text; empty without any."""
        if self.transform is not None:
            return f"{self.transform.spec} ({self.transform.about})"
        given = {"resize": self.resize, "crop": self.crop.size, "color": self.color.channels}
        return ", ".join(self.words[stage] for stage, value in given.items() if value)

    @property
    def identity(self) -> str:
        """Return all that decides the pixels, as far as it can be known: settings, and versions of libraries."""
        libraries = {"pillow", self.decode.library, *(each.library for each in self.resize)}
        versions = " ".join(f"{library} {exact_version(library)}" for library in sorted(libraries))
        own = {stage: getattr(self, stage) for stage in STAGES}
        opaque = "" if self.transform is None else f"{self.transform.spec} {self.transform.identity}"
        return f"{own} {versions} {opaque}"

    def but(self, stage: str, **settings: Any) -> Pipeline:
        """Return the pipeline with other settings of a stage."""
        return replace(self, **{stage: replace(getattr(self, stage), **settings)})

    def differing(self, other: Pipeline) -> tuple[str, ...]:
        """Return the names of the stages in which another pipeline differs."""
        return tuple(
            stage
            for stage in STAGES
            if getattr(self, stage) != getattr(other, stage)
            or (stage == "resize" and self.transform is not other.transform)
        )

    def references(self, *, channels: Any, encoded: bool) -> tuple[Pipeline, ...]:
        """Return what may be the serving pipeline of data that this one made, the most detailed first.

        A transform is read where its steps are known, and else one opaque stage. `channels` are those of the images,
        `encoded` says whether their pictures are bytes.
        """
        if self.transform is None:
            return (replace(self, color=Color(channels), encoded=encoded),)
        # A transform is called with an RGB picture.
        opaque = Pipeline(color=Color(COLOR), transform=self.transform, encoded=encoded)
        if (known := _stages_of(self.transform)) is None:
            return (opaque,)
        return replace(opaque, transform=None, resize=known[0], crop=known[1]), opaque

    def picture(self, picture: Any, *, where: str) -> DecodedPicture:
        """Return the pixels of a PIL image, array or tensor of `Pictures.read`, with notices about it.

        Raises `InputError`, which names `where`, for another object and for an invalid result of a transform.
        """
        opened, off_grid, transparent = picture, 0.0, False
        if hasattr(picture, "convert"):
            transparent = has_transparency(picture)
            opened = picture.convert("RGB") if self.transform else in_channels(picture, self.color.channels)
        else:
            pixels, off_grid = pixels_of(picture, where=where)
            opened = with_channels(pixels, self.color.channels)
        pixels, rounded = self._fitted(opened, where=where)
        stretched = 1.0
        if self.resize and isinstance(size := self.resize[0].size, tuple):
            height, width = size_of(opened)
            ratio = (width * size[0]) / (height * size[1])
            stretched = max(ratio, 1 / ratio)
        return DecodedPicture(pixels, transparent, stretched, rounded if self.transform else off_grid > _ROUNDED)

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (N, H, W) bool after the same steps as the images, by nearest neighbors."""
        if self.transform is not None:
            raise PipelineError(
                "the data have object masks, and a transform cannot be applied to these; use resize and crop, or "
                "remove the masks from the data",
                setting=f"transform {self.transform.spec}",
            )
        for resize in self.resize:
            masks = resize_masks(masks, resize.of(*masks.shape[1:]))
        if self.crop.size is None:
            return masks
        # Their bytes are 255, which the hash of the data covers.
        cropped = self.crop.apply(masks.transpose(1, 2, 0).astype(np.uint8)).transpose(2, 0, 1)
        return np.ascontiguousarray(cropped * np.uint8(255)).view(np.bool_)

    def apply(self, picture: Any, *, network: Normalise | None = None, where: str = "a picture") -> np.ndarray:
        """Return the pixels that a network sees, (C, H, W) float32, as it takes them: in [0, 1] as a rule.

        `picture` is the bytes of a file, a PIL image, or pixels (H, W, C) uint8. `network` is the normalization that
        the network does as its first step, by default this pipeline's. Another scale or normalization is given as
        pixels: those that the network turns into the same numbers. They may lie outside of [0, 1]. Raises
        `InputError`, which names `where`, for what cannot be decoded.
        """
        numbers = self.scale.apply(self.cropped(picture, where=where))
        expected = self.normalise if network is None else network
        if self.normalise != expected or self.scale.precision != "float32":
            numbers = expected.undone(self.normalise.apply(numbers).astype(np.float32))
        return np.ascontiguousarray(numbers.transpose(2, 0, 1), dtype=np.float32)

    def cropped(self, picture: Any, *, where: str = "a picture") -> np.ndarray:
        """Return the pixels before they are scaled, (H, W, C) uint8."""
        pixels, _ = self._fitted(self._altered(self.decoded(picture, where=where), late=False), where=where)
        return self._altered(pixels, late=True)

    def decoded(self, picture: Any, *, where: str = "a picture") -> np.ndarray:
        """Return the decoded picture, (H, W, C) uint8."""
        if isinstance(picture, bytes):
            return self.decode.apply(picture, upright=self.orient.exif, where=where)
        return levels_of(picture) if hasattr(picture, "convert") else pixels_of(picture, where=where)[0]

    def _altered(self, pixels: np.ndarray, *, late: bool) -> np.ndarray:
        """Return a picture saved as JPEG and in its colors, as far as that comes before or after resizing."""
        if self.jpeg is not None and self.jpeg.late == late:
            pixels = self.jpeg.apply(pixels)
        pixels = pixels if late else self.color.apply(pixels)
        return self.color.leveled(pixels) if self.color.late == late else pixels

    def _fitted(self, picture: np.ndarray | Image, *, where: str) -> tuple[np.ndarray, bool]:
        """Return a picture resized and cropped, or as the transform makes it, and whether that rounds values."""
        rounded = False
        if self.transform is not None:
            if isinstance(picture, np.ndarray):
                picture = as_picture(np.ascontiguousarray(with_channels(picture, COLOR)))
            picture, off_grid = self.transform.pixels(picture, where=where)
            rounded = off_grid > _ROUNDED
        for resize in self.resize:
            picture = resize.apply(picture)
        return self.crop.apply(levels_of(picture)), rounded


def pipeline_of(
    *,
    size: tuple[int, int] | None = None,
    channels: Any = None,
    resize: int | None = None,
    crop: tuple[int, int] | None = None,
    interpolation: str | None = None,
    antialias: bool = True,
) -> Pipeline:
    """Return the pipeline of these options; None leaves a property unchanged.

    `size` is the (height, width) that pictures are stretched to. `resize` is the new length of the shorter side; the
    other follows in proportion. `crop` is the (height, width) of the center that remains, with black around a smaller
    picture. Raises `InputError` for contradictory options.
    """
    if size is not None and (resize or crop):
        raise PipelineError(
            "size stretches images, the other keeps their proportions; give one of the two",
            setting=f"size and {'resize' if resize else 'crop'}",
        )
    if (interpolation is not None or not antialias) and size is None and resize is None:
        setting = "interpolation" if interpolation else "antialias"
        raise PipelineError("has an effect only with resize or size; set one of these too", setting=setting)
    named = interpolation or "bilinear"  # With antialiasing, it equals torchvision's Resize.
    if not antialias and named not in _WITHOUT_ANTIALIAS:
        raise PipelineError(
            f"{named} is always antialiased; expected one of {', '.join(_WITHOUT_ANTIALIAS)}", setting="antialias no"
        )
    to = size or resize
    resized = () if to is None else (_resize(to, named, library="pillow" if antialias else "torch", antialias=False),)
    return Pipeline(color=Color(channels), resize=resized, crop=Crop(crop))


def _resize(size: int | tuple[int, int], named: Any, *, library: Any = "pillow", antialias: bool = True) -> Resize:
    """Return a resizing by a filter of Pillow's or torchvision's name; `antialias` matters to torch alone."""
    smooth = named != "nearest" and (antialias or library == "pillow")
    return Resize(size, library, _FILTERS.get(named, named), antialias=smooth)


def _stages_of(transform: Transform) -> tuple[tuple[Resize, ...], Crop] | None:
    """Return the resizing and the crop of a transform of torchvision's or timm's; None for one with other steps."""
    call: Any = transform.call
    resize: tuple[Resize, ...] = ()
    crop, library = Crop(), "pillow"
    try:
        if type(call).__name__ == "ImageClassification":
            return (_resize(_lengths(call.resize_size), _filter(call)),), Crop(_size(call.crop_size))
        for step in call.transforms:
            kind = type(step).__name__
            if kind == "Resize" and not resize and crop == Crop() and getattr(step, "max_size", None) is None:
                antialias = library == "pillow" or bool(getattr(step, "antialias", True))
                resize = (_resize(_lengths(step.size), _filter(step), library=library, antialias=antialias),)
            elif kind == "CenterCrop" and crop == Crop():
                crop = Crop(_size(step.size))
            elif kind in _TO_TENSOR:
                library = "torch"
            elif kind not in _TO_FLOATS:
                return None
    except (AttributeError, TypeError, ValueError, KeyError):
        return None
    return resize, crop


def _filter(step: Any) -> str:
    return str(getattr(step.interpolation, "value", step.interpolation))


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    first, *_, last = [int(length) for length in np.ravel(size)] * 2
    return first, last


def _lengths(size: int | Sequence[int]) -> int | tuple[int, int]:
    """Return the length of the shorter side, or (height, width)."""
    return int(np.ravel(size)[0]) if np.size(size) == 1 else _size(size)
