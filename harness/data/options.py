"""Test images and their pipeline as the settings name them.

NumPy is imported when they are first needed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from harness.base.errors import PipelineError
from harness.base.groups import Settings, Text, setting
from harness.data.domain import DEFAULT_BORDER, DEFAULT_RANGE, Domain, border_of, range_of
from harness.data.sources import specs_in_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from harness.data.decoding import Spread
    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline
    from harness.data.transforms import Transform


_NOT_ANTIALIASED = ("nearest", "bilinear", "bicubic")
"""The interpolations that torch does without antialiasing."""


def _as_text(value: object) -> object:
    if type(value) is int:
        return str(value)
    return value


Pixels = Annotated[Text, BeforeValidator(_as_text)]
"""A number of pixels, or HEIGHTxWIDTH, as a text or a number."""


class DataOptions(Settings):
    """The specification of labeled images, and the pipeline that makes their pixels.

    Contradictions are refused.
    """

    data: Text = setting(
        default="fashion-mnist",
        about=f"The labeled test images: {specs_in_words()}; `stress-harness list sources` "
        "explains each. An npz file has the arrays images and labels, and perhaps classes, masks "
        "and groups (default: fashion-mnist).",
        metavar="SPEC",
        reads=True,
    )
    size: Pixels | None = setting(
        "Stretch images to this size: 64x96, or 64 for a square; not for fashion-mnist (default: "
        "unchanged).",
        metavar="HEIGHTxWIDTH",
    )
    channels: Literal[1, 3] | None = setting(
        "Load images as gray, 1, or as color, 3; not for fashion-mnist (default: unchanged)."
    )
    resize: Pixels | None = setting(
        "Resize the shorter side of images to this length, the other in proportion (default: "
        "unchanged).",
        metavar="PIXELS",
    )
    crop: Pixels | None = setting(
        "Keep the center of images, after resize, such as 224 (default: the whole image).",
        metavar="HEIGHTxWIDTH",
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = (
        setting("The interpolation of resize and size (default: bilinear).")
    )
    antialias: Literal["yes", "no"] = setting(
        default="yes",
        about="Antialias while resizing: yes as torchvision does for PIL images, no as it may for "
        "tensors (default: yes).",
    )
    transform: Text | None = setting(
        "A pipeline in place of size to antialias: module:callable, timm or torchvision. A "
        "callable takes a picture (PIL, RGB) and always returns the same tensor (C, H, W) or "
        "array, in [0, 1] or uint8. The words timm and torchvision stand for the network's own "
        "pipeline, by timm's data config or torchvision's default weights. A last Normalize of "
        "torchvision "
        "becomes the network's, unless `normalization` sets another (default: none).",
        metavar="SPEC",
        reads=True,
    )
    augmentation: dict[str, Any] | None = setting(
        "The range in which checks hold the candidate, such as "
        "{ rotate = 10, shift_x = 6, flip = true }: degrees, pixels to the sides (shift_x) and up "
        "and down (shift_y), and horizontal flips. What the table does not name is 0 or false "
        "(default: rotate 10, shift_x 2, shift_y 2, flip true).",
        metavar="TABLE",
    )
    border: Text = setting(
        default=DEFAULT_BORDER,
        about="The pixels outside an image that is rotated or shifted: constant:V with V from 0 "
        "(black) to 1 (white), edge, reflect, or mean, the mean of each channel of the image "
        "(default: constant:0).",
        metavar="BORDER",
    )

    @model_validator(mode="after")
    def _expect_no_contradiction(self) -> Self:
        """Raise an error before anything is loaded or imported."""
        if self.given.keys() & DataOptions.model_fields.keys() - {"data"}:
            _ = self.pipeline, self.domain
        return self

    @cached_property
    def domain(self) -> Domain:
        """Return the augmentation range and the border; raises `PipelineError` if invalid."""
        augmentation = DEFAULT_RANGE
        if self.augmentation is not None:
            augmentation = range_of(self.augmentation)
        return Domain(augmentation, border_of(self.border))

    @cached_property
    def pipeline(self) -> Pipeline:
        """Return the pipeline, without a transform, which is imported when the images are loaded.

        Raises `PipelineError` for options that contradict each other.
        """
        from harness.data.pipeline import Pipeline, resizing
        from harness.data.stages import Color, Crop, Resize

        self._expect_one_size()
        self._expect_size_to_interpolate()
        self._expect_no_step_beside_transform()

        resize: tuple[Resize, ...] = ()
        size = self._new_size
        if size is not None:
            # Pillow's filters antialias, as torchvision's `Resize` does for PIL images.
            library = "pillow"
            if not self._antialiased:
                library = "torch"
            resize = (resizing(size, self._filter, library=library, antialias=False),)
        crop = Crop()
        if self.crop:
            crop = Crop(parse_size(self.crop, setting="crop"))
        return Pipeline(color=Color(self.channels), resize=resize, crop=crop)

    @property
    def _antialiased(self) -> bool:
        return self.antialias != "no"

    @property
    def _filter(self) -> str:
        return self.interpolation or "bilinear"

    @property
    def _new_size(self) -> int | tuple[int, int] | None:
        """Return the size to stretch to, the length of the shorter side, or None."""
        if self.size:
            return parse_size(self.size, setting="size")
        if self.resize:
            shorter, _ = parse_size(self.resize, setting="resize")
            return shorter
        return None

    def _expect_one_size(self) -> None:
        """Raise `PipelineError` for an invalid size, and for two contradicting ones."""
        names = [name for name in ("size", "resize", "crop") if getattr(self, name)]
        sizes = {name: parse_size(getattr(self, name), setting=name) for name in names}
        if "resize" in sizes and sizes["resize"][0] != sizes["resize"][1]:
            raise PipelineError(
                "expected the length of the shorter side, such as 256; "
                "size stretches to a height and a width",
                setting=f"resize {self.resize}",
            )
        if "size" in sizes and len(sizes) > 1:
            raise PipelineError(
                "size stretches images, the other keeps their proportions; give one of the two",
                setting=f"size and {names[1]}",
            )

    def _expect_size_to_interpolate(self) -> None:
        """Raise `PipelineError` for an interpolation without a size or its antialiasing."""
        if (self.interpolation or not self._antialiased) and self._new_size is None:
            setting = "antialias"
            if self.interpolation:
                setting = "interpolation"
            raise PipelineError(
                "has an effect only with resize or size; set one of these too", setting=setting
            )
        if not self._antialiased and self._filter not in _NOT_ANTIALIASED:
            raise PipelineError(
                f"{self._filter} is always antialiased; expected {', '.join(_NOT_ANTIALIASED)}",
                setting="antialias no",
            )

    def _expect_no_step_beside_transform(self) -> None:
        """Raise `PipelineError` if another option would change pictures beside a transform."""
        if not self.transform:
            return
        steps = [name for name in ("size", "resize", "crop") if getattr(self, name)]
        steps += [name for name in ("interpolation", "channels") if getattr(self, name) is not None]
        if not self._antialiased:
            steps.append("antialias no")
        if steps:
            raise PipelineError(
                "the transform makes the pixels of the unchanged RGB picture; remove "
                f"{steps[0]}, or make it a step of the transform",
                setting=f"transform {self.transform} and {steps[0]}",
            )

    def load(
        self, words: Callable[[str], Transform] | None = None, *, spread: Spread | None = None
    ) -> LabelledImages:
        """Load the images.

        Args:
            words: Returns the network's transform, see `whole_pipeline`.
            spread: Decodes many pictures, see `load_images`.

        Raises:
            InputError: The images cannot be loaded.
        """
        from harness.data.sources import load_images

        images = load_images(self.data, pipeline=self.whole_pipeline(words), spread=spread)
        if images.domain == self.domain:
            return images
        return replace(images, domain=self.domain)

    def whole_pipeline(self, words: Callable[[str], Transform] | None = None) -> Pipeline:
        """Return the pipeline with its transform, which is imported now.

        `words` returns the network's transform for the word `timm` or `torchvision`.
        """
        from harness.data.transforms import WORDS, named_transform

        if self.transform is None:
            return self.pipeline
        if self.transform in WORDS and words is None:
            raise PipelineError(
                "depends on the network, but none is named", setting=f"transform {self.transform}"
            )
        if words and self.transform in WORDS:
            transform = words(self.transform)
        else:
            transform = named_transform(self.transform)
        return replace(self.pipeline, transform=transform)


def parse_size(text: str, *, setting: str = "size") -> tuple[int, int]:
    """Return (height, width) from `64` or `64x96`; raises `InputError` for anything else."""
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if match is None:
        raise PipelineError(
            "expected a number of pixels, or HEIGHTxWIDTH such as 64x96",
            setting=f"{setting} {text}",
        )
    height, width = match.groups()
    return int(height), int(width or height)
