"""Images from elsewhere, which belong to no class of the data, made by the data's own pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.base.errors import DataError, InputError
from harness.data.decoding import decoded
from harness.data.files import read_unlabelled
from harness.data.images import sample_up_to
from harness.data.pipeline import Pipeline
from harness.data.sources import load_images
from harness.data.stages import Resize

if TYPE_CHECKING:
    from harness.data.images import LabelledImages

OF_NO_CLASS = -1
"""The label of these images."""
MOST = 1_000
"""Largest number of images; a fixed sample replaces more."""
_SHIPPED = "fashion-mnist"


def load_elsewhere(spec: str, images: LabelledImages, pipeline: Pipeline) -> LabelledImages:
    """Load images of no class, of the shape of the data's images, at most 1,000; their labels are ignored.

    A folder may have any subfolders. Without a size, crop or transform, pictures are stretched to the size of the data.
    Raises `InputError` about the setting `unknown` for unreadable images and for another shape.
    """
    channels, height, width = images.pixels.shape[1:]
    if pipeline.transform is None:
        resize = () if pipeline.resize or pipeline.crop.size else (Resize((height, width)),)
        pipeline = replace(pipeline, resize=pipeline.resize or resize)
        pipeline = pipeline.but("color", channels=pipeline.color.channels or channels)
    kind, _, path = spec.partition(":")
    try:
        if kind == "folder":
            found = decoded(read_unlabelled(path), pipeline)
        else:
            found = load_images(spec, pipeline=Pipeline() if spec == _SHIPPED else pipeline)
    except InputError as error:
        raise DataError(error.message, setting=f"unknown {spec}") from error
    if (shape := tuple(found.pixels.shape[1:])) != (channels, height, width):
        raise DataError(
            f"has images of {shape[1]}x{shape[2]} pixels (channels: {shape[0]}), the data have {height}x{width} "
            f"(channels: {channels}); name the pipeline that makes pictures of that size (size, resize, transform)",
            setting=f"unknown {spec}",
        )
    import torch

    sample = sample_up_to(found, MOST)
    labels = torch.full((len(sample),), OF_NO_CLASS, dtype=torch.int64)
    return replace(sample, labels=labels, classes=images.classes, masks=None, groups={}, name=f"elsewhere {found.name}")
