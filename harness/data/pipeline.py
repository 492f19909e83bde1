"""The pipeline from a picture to what a network sees, stage by stage: of the data's options, and of any server."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import (
    Decode,
    Jpeg,
    Orient,
    as_picture,
    exact_version,
    in_channels,
    levels_of,
)
from harness.data.stages import COLOR, FILTERS, Color, Crop, Normalise, Resize, Scale
from harness.data.transforms import picture_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.data.transforms import Transform

STAGES = ("decode", "orient", "jpeg", "color", "resize", "crop", "scale", "normalise")
"""The stages of a pipeline, in their order."""
_ROUNDED = 1e-2
"""Distance from a whole level of 255 above which a value counts as rounded; float32 arithmetic errs by less."""
_TRANSPARENT = {"RGBA", "LA", "PA", "RGBa", "La"}


class DecodedPicture(NamedTuple):
    """One picture after a pipeline: its pixels, (H, W, C) uint8, and notices about it.

    `stretched` is the ratio of the new aspect ratio to the old, or its inverse, at least 1. `rounded` is true if some
    value was not a whole level of 255. `transparent` pictures lose their transparency.
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
        return ", ".join(filter(None, self.words.values()))

    @property
    def words(self) -> dict[str, str]:
        """Return each stage as text, in order, by its name."""
        opaque = "" if self.transform is None else f"{self.transform.spec} (one opaque stage)"
        own = {stage: str(getattr(self, stage) or "") for stage in STAGES}
        own["resize"] = (
            ", ".join(filter(None, (opaque, ", then ".join(map(str, self.resize)))))
            or "size unchanged"
        )
        return own if self.encoded else own | {"decode": "pixels of the data", "orient": ""}

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
        opaque = (
            "" if self.transform is None else f"{self.transform.spec} {self.transform.identity}"
        )
        return f"{own} {versions} {opaque}"

    def but(self, stage: str, **settings: Any) -> Pipeline:
        """Return the pipeline with other settings of a stage."""
        return replace(self, **{stage: replace(getattr(self, stage), **settings)})

    def differing(self, other: Pipeline) -> tuple[str, ...]:
        """Return the names of the stages in which another pipeline differs; a transform is in the place of resizing."""
        stages = tuple(stage for stage in STAGES if getattr(self, stage) != getattr(other, stage))
        return (
            stages
            if self.transform is other.transform
            else tuple(s for s in STAGES if s in {*stages, "resize"})
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
        known = _stages_of(self.transform.call)
        return (
            (opaque,)
            if known is None
            else (replace(opaque, transform=None, resize=known[0], crop=known[1]), opaque)
        )

    def picture(self, picture: Any, *, where: str = "a picture") -> DecodedPicture:
        """Return the pixels before they are scaled, of the bytes of a file, a PIL image, an array, or a tensor.

        Raises `InputError`, which names `where`, for what cannot be decoded, and for an invalid result of a transform.
        """
        if isinstance(picture, bytes):
            picture = self.decode.apply(picture, upright=self.orient.exif, where=where)
        off_grid, transparent = 0.0, False
        if hasattr(picture, "convert"):
            transparent = picture.mode in _TRANSPARENT or "transparency" in picture.info
        else:
            picture, off_grid = picture_of(picture, where=where)
        stretched, picture = 1.0, self._altered(picture, late=False)
        if self.resize and isinstance(size := self.resize[0].size, tuple):
            ratio = (picture.width * size[0]) / (picture.height * size[1])
            stretched = max(ratio, 1 / ratio)
        if self.transform is not None:
            picture, off_grid = self.transform.picture(
                in_channels(picture, COLOR).copy(), where=where
            )
        for resize in self.resize:
            picture = resize.apply(picture)
        picture = self._altered(self.crop.apply(picture), late=True)
        return DecodedPicture(levels_of(picture), transparent, stretched, off_grid > _ROUNDED)

    def _altered(self, picture: Image, *, late: bool) -> Image:
        """Return a picture saved as JPEG and in its colors, as far as that comes before or after resizing."""
        if self.jpeg is not None and self.jpeg.late == late:
            picture = self.jpeg.apply(picture)
        picture = picture if late else self.color.apply(picture)
        return self.color.leveled(picture) if self.color.late == late else picture

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (N, H, W) bool after the same steps as the images, by nearest neighbors."""
        if self.transform is not None:
            raise PipelineError(
                "the data have object masks, and a transform cannot be applied to these; use resize and crop, or "
                "remove the masks from the data",
                setting=f"transform {self.transform.spec}",
            )
        for resize in self.resize:
            sizes = zip(resize.of(*masks.shape[1:]), masks.shape[1:], strict=True)
            rows, columns = (
                ((np.arange(new) + 0.5) * old // new).astype(int) for new, old in sizes
            )
            masks = masks[:, rows[:, None], columns]
        if self.crop.size is None:
            return masks
        # Their bytes are 255, which the hash of the data covers.
        cropped = (
            self.crop.apply(as_picture(mask.view(np.uint8) * np.uint8(255))) for mask in masks
        )
        return np.stack([np.asarray(mask) for mask in cropped]).view(np.bool_)

    def apply(
        self, picture: Any, *, network: Normalise | None = None, where: str = "a picture"
    ) -> np.ndarray:
        """Return the pixels that a network sees, (C, H, W) float32, as it takes them: in [0, 1] as a rule.

        `picture` is as for the method `picture`. `network` is the normalization that the network does as its first
        step, by default this pipeline's. Another scale or normalization is given as pixels: those that the network
        turns into the same numbers. They may lie outside of [0, 1].
        """
        numbers = self.scale.apply(self.picture(picture, where=where).pixels)
        expected = self.normalise if network is None else network
        if self.normalise != expected or self.scale.precision != "float32":
            numbers = expected.undone(self.normalise.apply(numbers).astype(np.float32))
        return np.ascontiguousarray(numbers.transpose(2, 0, 1), dtype=np.float32)


def resizing(size: Any, named: Any, *, library: Any = "pillow", antialias: bool = True) -> Resize:
    """Return a resizing by a filter of Pillow's or torchvision's name; `antialias` matters to torch alone."""
    named = str(getattr(named, "value", named))
    to = int(np.ravel(size)[0]) if np.size(size) == 1 else _size(size)
    smooth, named = (
        named != "nearest" and (antialias or library == "pillow"),
        "area" if named == "box" else named,
    )
    if named not in FILTERS[library]:
        raise PipelineError(
            f"{library} has no filter {named}; expected one of {', '.join(FILTERS[library])}"
        )
    return Resize(to, library, named, antialias=smooth)


def _size(size: Any) -> tuple[int, int]:
    lengths = [int(length) for length in np.ravel(size)]
    return lengths[0], lengths[-1]


def _stages_of(call: Any) -> tuple[tuple[Resize, ...], Crop] | None:
    """Return the resizing and the crop of a transform of torchvision's or timm's; None for one with other steps."""
    resize: tuple[Resize, ...] = ()
    crop, library = Crop(), "pillow"
    try:
        if type(call).__name__ == "ImageClassification":
            return (resizing(call.resize_size, call.interpolation),), Crop(_size(call.crop_size))
        for step in call.transforms:
            kind = type(step).__name__
            if (
                kind == "Resize"
                and not resize
                and crop == Crop()
                and getattr(step, "max_size", None) is None
            ):
                antialias = bool(getattr(step, "antialias", True))
                resize = (
                    resizing(step.size, step.interpolation, library=library, antialias=antialias),
                )
            elif kind == "CenterCrop" and crop == Crop():
                crop = Crop(_size(step.size))
            elif kind in {
                "ToTensor",
                "MaybeToTensor",
                "PILToTensor",
                "MaybePILToTensor",
                "ToImage",
            }:
                library = "torch"
            elif kind not in {"ConvertImageDtype", "ToDtype"}:
                return None
    except (AttributeError, TypeError, ValueError, KeyError, PipelineError):
        return None
    return resize, crop
