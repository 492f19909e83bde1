"""The pipeline from a picture to what a network sees, stage by stage.

It is that of the data's options, or of any server.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.base.cache import installed
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
"""Distance from a whole level of 255 above which a value counts as rounded.

The arithmetic of float32 errs by less.
"""
_TO_TENSOR = {"ToTensor", "MaybeToTensor", "PILToTensor", "MaybePILToTensor", "ToImage"}
"""Steps of torchvision and timm that turn a picture into a tensor."""
_TO_TYPE = {"ConvertImageDtype", "ToDtype"}
"""Steps of torchvision that change the type of a tensor."""
_TRANSPARENT = {"RGBA", "LA", "PA", "RGBa", "La"}


class DecodedPicture(NamedTuple):
    """One picture after a pipeline, and notices about it.

    Attributes:
        pixels: (H, W, C) uint8.
        transparent: Whether the picture had transparency, which is dropped.
        stretched: The ratio of the new aspect ratio to the old, or its inverse, at least 1.
        rounded: Whether some value was not a whole level of 255.
    """

    pixels: np.ndarray
    transparent: bool = False
    stretched: float = 1.0
    rounded: bool = False


@dataclass(frozen=True)
class Pipeline:
    """The stages of a pipeline, each a setting, as data.

    Attributes:
        decode: The decoder of the bytes of a file; decoded pictures skip it.
        orient: The use of the EXIF orientation of a file; decoded pictures skip it.
        jpeg: How a picture is saved anew as JPEG; None where it is not.
        color: The channels and levels.
        resize: Each size that a picture passes through.
        crop: The part that is kept.
        scale: The numbers made of levels.
        `normalise`: The normalization of these numbers.
        transform: A callable of the user's, one opaque stage in the place of resizing and cropping;
            the crop then only moves its result.
        encoded: Whether pictures come as the bytes of a file; if not, the data's own pixels come
            first.
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

    def __str__(self) -> str:
        return ", ".join(words for words in self.words.values() if words)

    @property
    def words(self) -> dict[str, str]:
        """Return each stage as text, in order, by its name."""
        words = {stage: str(getattr(self, stage) or "") for stage in STAGES}
        words["resize"] = self._resizing_in_words()
        if not self.encoded:
            words["decode"] = "pixels of the data"
            words["orient"] = ""
        return words

    def _resizing_in_words(self) -> str:
        parts = []
        if self.transform is not None:
            parts.append(f"{self.transform.spec} (one opaque stage)")
        if self.resize:
            parts.append(", then ".join(str(resize) for resize in self.resize))
        return ", ".join(parts) or "size unchanged"

    @property
    def steps(self) -> str:
        """Return the steps that the options of the data name, as text; empty without any."""
        if self.transform is not None:
            return f"{self.transform.spec} ({self.transform.about})"
        settings = {"resize": self.resize, "crop": self.crop.size, "color": self.color.channels}
        words = self.words
        return ", ".join(words[stage] for stage, setting in settings.items() if setting)

    @property
    def identity(self) -> str:
        """Return all that decides the pixels, as far as it can be known.

        That is settings, and versions of libraries.
        """
        libraries = {"pillow", self.decode.library, *(resize.library for resize in self.resize)}
        versions = [f"{library} {exact_version(library)}" for library in sorted(libraries)]
        if "torch" in libraries:
            # Torchvision calls torch; its version is read without its import, which is slow.
            versions += installed(["torchvision"])
        settings = {stage: getattr(self, stage) for stage in STAGES}
        opaque = ""
        if self.transform is not None:
            opaque = f"{self.transform.spec} {self.transform.identity}"
        return f"{settings} {' '.join(versions)} {opaque}"

    def but(self, stage: str, **settings: Any) -> Pipeline:
        """Return the pipeline with other settings of a stage."""
        changed = replace(getattr(self, stage), **settings)
        return replace(self, **{stage: changed})

    def differing(self, other: Pipeline) -> tuple[str, ...]:
        """Return the names of the stages in which another pipeline differs.

        Another transform counts as another stage of resizing.
        """
        names = {stage for stage in STAGES if getattr(self, stage) != getattr(other, stage)}
        if self.transform is not other.transform:
            names.add("resize")
        return tuple(stage for stage in STAGES if stage in names)

    def references(self, *, channels: Any, encoded: bool) -> tuple[Pipeline, ...]:
        """Return possible serving pipelines of data that this pipeline made.

        The most detailed comes first. A transform is read where its steps are known, and else one
        opaque stage.

        Args:
            channels: The channels of the images.
            encoded: Whether their pictures are the bytes of files.
        """
        if self.transform is None:
            return (replace(self, color=Color(channels), encoded=encoded),)
        # A transform is called with an RGB picture.
        opaque = Pipeline(color=Color(COLOR), transform=self.transform, encoded=encoded)
        stages = _stages_of(self.transform.call)
        if stages is None:
            return (opaque,)
        resize, crop = stages
        return replace(opaque, transform=None, resize=resize, crop=crop), opaque

    def picture(self, picture: Any, *, where: str = "a picture") -> DecodedPicture:
        """Return a picture after the pipeline, before it is scaled.

        Args:
            picture: The bytes of a file, a PIL image, an array, or a tensor.
            where: The name of the picture in messages.

        Raises:
            InputError: The picture cannot be decoded, or a transform has an invalid result.
        """
        if isinstance(picture, bytes):
            picture = self.decode.apply(picture, upright=self.orient.exif, where=where)
        rounding_error = 0.0
        transparent = False
        if hasattr(picture, "convert"):
            transparent = picture.mode in _TRANSPARENT or "transparency" in picture.info
        else:
            picture, rounding_error = picture_of(picture, where=where)

        picture = self._altered(picture, late=False)
        stretched = self._stretching(picture)
        if self.transform is not None:
            # A copy, since a transform may change the picture in place.
            own_picture = in_channels(picture, COLOR).copy()
            picture, rounding_error = self.transform.picture(own_picture, where=where)
        for resize in self.resize:
            picture = resize.apply(picture)
        picture = self._altered(self.crop.apply(picture), late=True)
        return DecodedPicture(
            levels_of(picture), transparent, stretched, rounded=rounding_error > _ROUNDED
        )

    def _stretching(self, picture: Image) -> float:
        """Return how much the first size changes the aspect ratio, as a factor of at least 1."""
        if not self.resize or not isinstance(self.resize[0].size, tuple):
            return 1.0
        height, width = self.resize[0].size
        ratio = (picture.width * height) / (picture.height * width)
        return max(ratio, 1 / ratio)

    def _altered(self, picture: Image, *, late: bool) -> Image:
        """Return a picture saved as JPEG and in its colors.

        Only the steps before resizing are done, or those after it if `late`.
        """
        if self.jpeg is not None and self.jpeg.late == late:
            picture = self.jpeg.apply(picture)
        if not late:
            picture = self.color.apply(picture)
        if self.color.late == late:
            picture = self.color.leveled(picture)
        return picture

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Return masks (N, H, W) bool after the same steps as the images, by nearest neighbors."""
        if self.transform is not None:
            raise PipelineError(
                "the data have object masks, and a transform cannot be applied to these; "
                "use resize and crop, or remove the masks from the data",
                setting=f"transform {self.transform.spec}",
            )
        for resize in self.resize:
            height, width = masks.shape[1:]
            new_height, new_width = resize.of(height, width)
            rows = _nearest(new_height, height)
            columns = _nearest(new_width, width)
            masks = masks[:, rows[:, None], columns]
        if self.crop.size is None:
            return masks

        cropped_masks = []
        for mask in masks:
            # Their bytes are 255, which the hash of the data covers.
            picture = as_picture(mask.view(np.uint8) * np.uint8(255))
            cropped_masks.append(np.asarray(self.crop.apply(picture)))
        return np.stack(cropped_masks).view(np.bool_)

    def apply(
        self, picture: Any, *, network: Normalise | None = None, where: str = "a picture"
    ) -> np.ndarray:
        """Return the pixels that a network sees, (C, H, W) float32, in [0, 1] as a rule.

        Another scale or normalization than the network's is given as pixels: those that the network
        turns into the same numbers. They may lie outside of [0, 1].

        Args:
            picture: A picture, see the method `picture`.
            network: The normalization that the network does as its first step, by default this
                pipeline's.
            where: The name of the picture in messages.
        """
        if network is None:
            network = self.normalise
        numbers = self.scale.apply(self.picture(picture, where=where).pixels)
        if self.normalise != network or self.scale.precision != "float32":
            normalized = self.normalise.apply(numbers).astype(np.float32)
            numbers = network.undone(normalized)
        return np.ascontiguousarray(numbers.transpose(2, 0, 1), dtype=np.float32)


def _nearest(new_length: int, length: int) -> np.ndarray:
    """Return the position of the nearest old pixel for each new one on a side, (new_length,) int.

    It is what torchvision calls nearest-exact, in float64: torchvision's float32 differs for some
    sizes.
    """
    centers = np.arange(new_length) + 0.5
    return (centers * length // new_length).astype(int)


def resizing(size: Any, named: Any, *, library: Any = "pillow", antialias: bool = True) -> Resize:
    """Return a resizing by a filter of Pillow's or torchvision's name.

    `antialias` matters to torch alone.
    """
    name = str(getattr(named, "value", named))
    smooth = name != "nearest" and (antialias or library == "pillow")
    if name == "box":
        name = "area"
    if name not in FILTERS[library]:
        raise PipelineError(
            f"{library} has no filter {name}; expected one of {', '.join(FILTERS[library])}"
        )
    new_size: Any = _size(size)
    if np.size(size) == 1:
        new_size = new_size[0]
    return Resize(new_size, library, name, antialias=smooth)  # type: ignore[arg-type]


def _size(size: Any) -> tuple[int, int]:
    lengths = [int(length) for length in np.ravel(size)]
    return lengths[0], lengths[-1]


def _stages_of(call: Any) -> tuple[tuple[Resize, ...], Crop] | None:
    """Return the resizing and the crop of a transform of torchvision's or timm's.

    Returns None for a transform with other steps.
    """
    try:
        if type(call).__name__ == "ImageClassification":
            resize = resizing(call.resize_size, call.interpolation)
            return (resize,), Crop(_size(call.crop_size))
        return _stages_of_steps(call.transforms)
    except (AttributeError, TypeError, ValueError, KeyError, PipelineError):
        return None


def _stages_of_steps(steps: Any) -> tuple[tuple[Resize, ...], Crop] | None:
    """Return the resizing and the crop of steps, None for others; raises an error for a setting.

    Steps are known by the names of their classes, since torchvision, its v2 and timm have each of
    their own.
    """
    resize: tuple[Resize, ...] = ()
    crop = Crop()
    library = "pillow"
    for step in steps:
        kind = type(step).__name__
        if kind == "Resize":
            if resize or crop != Crop() or getattr(step, "max_size", None) is not None:
                return None
            antialias = bool(getattr(step, "antialias", True))
            resize = (
                resizing(step.size, step.interpolation, library=library, antialias=antialias),
            )
        elif kind == "CenterCrop":
            if crop != Crop():
                return None
            crop = Crop(_size(step.size))
        elif kind in _TO_TENSOR:
            library = "torch"
        elif kind not in _TO_TYPE:
            return None
    return resize, crop
