"""Single pictures made like the images at hand, and pixels kept as pictures: what is looked at besides the data."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_files import read_picture
from harness.data.images import LabelledImages
from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data.pipeline import Pipeline


def pixels_like(images: LabelledImages, content: bytes, pipeline: Pipeline, *, where: str) -> np.ndarray:
    """Return what the pipeline makes of the bytes of a picture, (C, H, W) uint8, of the shape of the images at hand.

    Grey and colour are made what the images are, unless the pipeline says. Raises `InputError`, which names `where`,
    for what is no picture in a documented format, and for one of another size.
    """
    channels, height, width = images.pixels.shape[1:]
    if pipeline.transform is None and pipeline.channels is None:
        pipeline = replace(pipeline, channels=channels)
    pixels = pipeline.apply(read_picture(content, where=where), where=where).pixels.transpose(2, 0, 1)
    if pixels.shape != (channels, height, width):
        made = f"of {pixels.shape[1]}x{pixels.shape[2]} pixels"
        raise InputError(
            f"{where}: is {made}, the images at hand are {height}x{width} (channels: {channels}); give a picture of "
            "that size, or name the pipeline that makes one of it (--stress-size, --stress-resize, --stress-transform)"
        )
    return np.ascontiguousarray(pixels)


def as_png(pixels: np.ndarray) -> bytes:
    """Return pixels (C, H, W) uint8, grey or colour, as the content of a PNG file, which holds them exactly."""
    from PIL import Image

    array = pixels.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG")
    return file.getvalue()


def labelled_like(
    images: LabelledImages, pixels: Sequence[np.ndarray], labels: Sequence[int], *, name: str
) -> LabelledImages:
    """Return pixels, each (C, H, W) uint8, as labelled images of the same classes, made as the images at hand are."""
    import torch

    return LabelledImages(
        torch.from_numpy(np.stack(pixels)),
        torch.tensor(labels, dtype=torch.int64),
        images.classes,
        name,
        images.split,
        pipeline=images.pipeline,
        normalisation=images.normalisation,
    )
