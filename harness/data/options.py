"""The options that name images and how pixels are made of them, shared by pytest and `python -m harness`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.data.pipeline import INTERPOLATIONS, Pipeline
from harness.data.sources import load_images, specs_in_words
from harness.data.transforms import WORDS, named_transform
from harness.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

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
    def of(options: argparse.Namespace) -> DataOptions:
        """Return the options as parsed; raises `InputError` for a size that is none, and what contradicts itself."""
        resize = _parsed("--stress-resize", options.stress_resize)
        if resize is not None and resize[0] != resize[1]:
            raise InputError(
                f"--stress-resize {options.stress_resize}: expected the length of the shorter side, such as 256; "
                "--stress-size stretches to a height and a width"
            )
        # Contradictions are told before anything is loaded or imported.
        pipeline = Pipeline(
            size=_parsed("--stress-size", options.stress_size),
            channels=options.stress_channels,
            resize=resize and resize[0],
            crop=_parsed("--stress-crop", options.stress_crop),
            interpolation=options.stress_interpolation,
            antialias=options.stress_antialias != "no",
        )
        pipeline.expect_alone(options.stress_transform)
        return DataOptions(options.stress_data, pipeline, options.stress_transform)

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
            raise InputError(f"--stress-transform {self.transform}: is the network's, and no network is named here")
        return words(self.transform)


def parse_size(text: str, *, option: str = "--stress-size") -> tuple[int, int]:
    """Return (height, width) from `64` or `64x96`; raises `InputError` for anything else."""
    if not (found := re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)):
        raise InputError(f"{option} {text}: expected a number of pixels, or HEIGHTxWIDTH, such as 64 or 64x96")
    return int(found[1]), int(found[2] or found[1])


def _parsed(option: str, text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text, option=option)


def add_data_options(add: Callable[..., Any], *, name: str = "--stress-data") -> None:
    """Add the options of `DataOptions`, by a parser's `add_argument` or a pytest group's `addoption`."""
    add(
        name,
        dest="stress_data",
        metavar="SPEC",
        default="fashion-mnist",
        help=f"The labelled test images: {specs_in_words(explained=True)} (default: fashion-mnist).",
    )
    add(
        "--stress-size",
        metavar="HEIGHTxWIDTH",
        help="The size that images are stretched to, such as 64 or 64x96; when they are of several sizes this is "
        "needed, or --stress-resize with --stress-crop, or --stress-transform. None of these is for fashion-mnist "
        "(default: as they are).",
    )
    add(
        "--stress-channels",
        type=int,
        choices=(1, 3),
        help="Load images as grey, 1, or as colour, 3; not for fashion-mnist (default: as they are).",
    )
    add(
        "--stress-resize",
        metavar="PIXELS",
        help="The length that the shorter side of images is resized to, the other in proportion (default: as it is).",
    )
    add(
        "--stress-crop",
        metavar="HEIGHTxWIDTH",
        help="The middle of images that is kept, after --stress-resize, such as 224 (default: all of them).",
    )
    add(
        "--stress-interpolation",
        choices=INTERPOLATIONS,
        help="How images are resized (default: bilinear).",
    )
    add(
        "--stress-antialias",
        choices=("yes", "no"),
        default="yes",
        help="Whether resizing is antialiased, as torchvision's of PIL images is, or not, as its of tensors may be "
        "(default: yes).",
    )
    add(
        "--stress-transform",
        metavar="SPEC",
        help="The pipeline in place of these: module:callable, called with each picture (PIL, RGB) for a tensor "
        "(C, H, W) or array in [0, 1] or of bytes, the same every time; or timm or torchvision, the pipeline that the "
        "network of --stress-model was made with by timm's data config or torchvision's default weights. A last "
        "Normalize of torchvision's becomes the network's normalisation, unless --stress-normalisation says another.",
    )
