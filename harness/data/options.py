"""The settings that name images, and how pixels are made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import Setting, with_defaults
from harness.data.pipeline import INTERPOLATIONS, Pipeline
from harness.data.sources import load_images, specs_in_words
from harness.data.transforms import WORDS, named_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data.images import LabelledImages
    from harness.data.parallel import Spread
    from harness.data.transforms import Transform


@dataclass(frozen=True)
class DataOptions:
    """Which labelled images, and how pixels are made of them; None for as they are, see `Pipeline`."""

    spec: str = "fashion-mnist"
    pipeline: Pipeline = field(default_factory=Pipeline)
    transform: str | None = None
    """The specification of a transform in place of the pipeline's own steps; resolved when the images are loaded."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> DataOptions:
        """Return the options by the values of settings; those that are missing have their defaults.

        Raises `InputError` for a size that is none, and for what contradicts itself.
        """
        given = with_defaults(values, DATA_SETTINGS)
        resize = _parsed("resize", given["resize"])
        if resize is not None and resize[0] != resize[1]:
            raise InputError(
                "expected the length of the shorter side, such as 256; size stretches to a height and a width",
                setting=f"resize {given['resize']}",
            )
        # Contradictions are told before anything is loaded or imported.
        pipeline = Pipeline(
            size=_parsed("size", given["size"]),
            channels=given["channels"],
            resize=resize and resize[0],
            crop=_parsed("crop", given["crop"]),
            interpolation=given["interpolation"],
            antialias=given["antialias"] != "no",
        )
        pipeline.expect_alone(given["transform"])
        return DataOptions(given["data"], pipeline, given["transform"])

    def load(self, words: Callable[[str], Transform] | None = None, *, spread: Spread | None = None) -> LabelledImages:
        """Load the images; see `load_images`.

        `words` gives the transform of a word, `timm` or `torchvision`, which depends on the network. Many pictures are
        decoded by `spread`, such as a cluster, or by this process.
        """
        return load_images(self.spec, pipeline=replace(self.whole_pipeline(words), spread=spread))

    def whole_pipeline(self, words: Callable[[str], Transform] | None = None) -> Pipeline:
        """Return the pipeline with its transform, which is named and imported now; see `load`."""
        return replace(self.pipeline, transform=self._transform(words))

    def _transform(self, words: Callable[[str], Transform] | None) -> Transform | None:
        if self.transform is None:
            return None
        if self.transform not in WORDS:
            return named_transform(self.transform)
        if words is None:
            raise InputError("is the network's, and no network is named here", setting=f"transform {self.transform}")
        return words(self.transform)


def parse_size(text: str, *, setting: str = "size") -> tuple[int, int]:
    """Return (height, width) from `64` or `64x96`; raises `InputError` for anything else."""
    if not (found := re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)):
        raise InputError(
            "expected a number of pixels, or HEIGHTxWIDTH, such as 64 or 64x96", setting=f"{setting} {text}"
        )
    return int(found[1]), int(found[2] or found[1])


def _parsed(setting: str, text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text, setting=setting)


DATA_SETTINGS = (
    Setting(
        "data",
        f"The labelled test images: {specs_in_words(explained=True)} (default: fashion-mnist).",
        "data",
        default="fashion-mnist",
        metavar="SPEC",
    ),
    Setting(
        "size",
        "The size that images are stretched to, such as 64 or 64x96; when they are of several sizes this is needed, or "
        "resize with crop, or transform. None of these is for fashion-mnist (default: as they are).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "channels",
        "Load images as grey, 1, or as colour, 3; not for fashion-mnist (default: as they are).",
        "data",
        type=int,
        choices=(1, 3),
    ),
    Setting(
        "resize",
        "The length that the shorter side of images is resized to, the other in proportion (default: as it is).",
        "data",
        metavar="PIXELS",
    ),
    Setting(
        "crop",
        "The middle of images that is kept, after resize, such as 224 (default: all of them).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting("interpolation", "How images are resized (default: bilinear).", "data", choices=tuple(INTERPOLATIONS)),
    Setting(
        "antialias",
        "Whether resizing is antialiased, as torchvision's of PIL images is, or not, as its of tensors may be "
        "(default: yes).",
        "data",
        default="yes",
        choices=("yes", "no"),
    ),
    Setting(
        "transform",
        "The pipeline in place of these: module:callable, called with each picture (PIL, RGB) for a tensor (C, H, W) "
        "or array in [0, 1] or of bytes, the same every time; or timm or torchvision, the pipeline that the network of "
        "model was made with by timm's data config or torchvision's default weights. A last Normalize of torchvision's "
        "becomes the network's normalisation, unless normalisation says another (default: none).",
        "data",
        metavar="SPEC",
    ),
)
"""The settings that `DataOptions` are made of."""
