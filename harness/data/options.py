"""Test images and their pipeline as the settings name them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import PipelineError
from harness.base.settings import with_defaults
from harness.data.pipeline import Pipeline
from harness.data.settings import DATA_SETTINGS
from harness.data.sources import load_images
from harness.data.transforms import WORDS, named_transform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data.images import LabelledImages
    from harness.data.parallel import Spread
    from harness.data.transforms import Transform


@dataclass(frozen=True)
class DataOptions:
    """The specification of labeled images, and the pipeline that makes their pixels."""

    spec: str = "fashion-mnist"
    pipeline: Pipeline = field(default_factory=Pipeline)
    transform: str | None = None
    """The specification of a transform that replaces the pipeline's own steps; imported when the images are loaded."""

    @staticmethod
    def of(values: Mapping[str, Any]) -> DataOptions:
        """Return the options for the values of settings; a missing one has its default.

        Raises `InputError` for an invalid size and for contradictory settings.
        """
        given = with_defaults(values, DATA_SETTINGS)
        resize = _parsed("resize", given["resize"])
        if resize is not None and resize[0] != resize[1]:
            raise PipelineError(
                "expected the length of the shorter side, such as 256; size stretches to a height and a width",
                setting=f"resize {given['resize']}",
            )
        # Contradictions raise an error before anything is loaded or imported.
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

        `words` returns the network's transform for the word `timm` or `torchvision`. `spread`, for example a cluster,
        decodes many pictures; without it, this process does.
        """
        return load_images(self.spec, pipeline=replace(self.whole_pipeline(words), spread=spread))

    def whole_pipeline(self, words: Callable[[str], Transform] | None = None) -> Pipeline:
        """Return the pipeline with its transform, which is imported now; see `load`."""
        return replace(self.pipeline, transform=self._transform(words))

    def _transform(self, words: Callable[[str], Transform] | None) -> Transform | None:
        if self.transform is None:
            return None
        if self.transform not in WORDS:
            return named_transform(self.transform)
        if words is None:
            raise PipelineError("depends on the network, but none is named", setting=f"transform {self.transform}")
        return words(self.transform)


def parse_size(text: str, *, setting: str = "size") -> tuple[int, int]:
    """Return (height, width) from `64` or `64x96`; raises `InputError` for anything else."""
    if not (found := re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)):
        raise PipelineError(
            "expected a number of pixels, or HEIGHTxWIDTH, such as 64 or 64x96", setting=f"{setting} {text}"
        )
    return int(found[1]), int(found[2] or found[1])


def _parsed(setting: str, text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_size(text, setting=setting)
