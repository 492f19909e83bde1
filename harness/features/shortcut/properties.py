"""Simple properties of images: what a network could read off instead of the object."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_files import FORMATS
from harness.data.rows import parts_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.data import LabelledImages

FILE_FORMAT = "file format "
"""Start of the names of properties that are 0 or 1 for a format."""
FILE_SIZE = "file size"
"""Name of the size in bytes."""
_STRIP = 0.07
"""Width of a strip at an edge, as a share of the side: 2 of 28 pixels.

Corners are twice as wide.
"""


def properties_of(images: LabelledImages) -> dict[str, np.ndarray]:
    """Return the properties of N images by name, (N,) float64 each.

    They are mean levels of the strips at the edges, of the corners and of each channel, in
    [0, 255], contrast and sharpness. Images whose encoded files are known have the properties of
    their files, too: width, height, aspect ratio, size in bytes, and a 0 or 1 for each file format.
    """
    count, channels, height, width = images.pixels.shape
    bytes_of_image = channels * height * width * 8  # As numbers of 64 bits.
    parts = [_of_pixels(images.pixels[part]) for part in parts_of(count, bytes_of_image)]
    of_pixels = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return of_pixels | _of_files(images)


def _of_pixels(pixels: Tensor) -> dict[str, np.ndarray]:
    """Return the properties of pixels (N, C, H, W) uint8."""
    levels = pixels.double()
    height, width = levels.shape[2:]
    rows = max(round(_STRIP * height), 1)
    columns = max(round(_STRIP * width), 1)
    strips = {
        "upper edge": levels[:, :, :rows],
        "lower edge": levels[:, :, -rows:],
        "left edge": levels[..., :columns],
        "right edge": levels[..., -columns:],
        "upper left corner": levels[:, :, : 2 * rows, : 2 * columns],
        "upper right corner": levels[:, :, : 2 * rows, -2 * columns :],
        "lower left corner": levels[:, :, -2 * rows :, : 2 * columns],
        "lower right corner": levels[:, :, -2 * rows :, -2 * columns :],
    }
    properties = {
        f"level of the {name}": strip.mean(dim=(1, 2, 3)) for name, strip in strips.items()
    }
    for channel, name in enumerate(_channels(levels.shape[1])):
        properties[f"mean {name}"] = levels[:, channel].mean(dim=(1, 2))
    properties["contrast"] = levels.std(dim=(1, 2, 3))
    properties["sharpness"] = _sharpness(levels.mean(dim=1))
    return {name: values.numpy() for name, values in properties.items()}


def _channels(count: int) -> tuple[str, ...]:
    if count == 3:  # noqa: PLR2004  Red, green and blue.
        return "red", "green", "blue"
    if count == 1:
        return ("level",)
    return tuple(f"channel {number}" for number in range(count))


def _sharpness(gray: Tensor) -> Tensor:
    """Return the mean square of the differences of neighbors in images (N, H, W).

    It is small for blurred images.
    """
    horizontal = gray.diff(dim=2).square().mean(dim=(1, 2))
    vertical = gray.diff(dim=1).square().mean(dim=(1, 2))
    return horizontal + vertical


def _of_files(images: LabelledImages) -> dict[str, np.ndarray]:
    origin = images.origin
    if origin is None or not origin.encoded:
        return {}
    headers = [_header(origin.picture(int(position))) for position in images.positions]
    formats, widths, heights, sizes = (np.array(values) for values in zip(*headers, strict=True))
    properties = {
        "file width": widths.astype(np.float64),
        "file height": heights.astype(np.float64),
        "aspect ratio": widths / heights,
        FILE_SIZE: sizes.astype(np.float64),
    }
    for name in np.unique(formats):
        properties[f"{FILE_FORMAT}{name}"] = (formats == name).astype(np.float64)
    return properties


def _header(content: bytes) -> tuple[str, int, int, int]:
    """Return format, width, height and number of bytes of an encoded picture.

    Its pixels are not decoded.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        return str(picture.format), picture.width, picture.height, len(content)
