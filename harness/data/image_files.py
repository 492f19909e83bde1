"""Single pictures: read from files, resized, made grey or colour."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.store.files import require_regular

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What a picture may be, by Pillow's names."""
MAX_PIXELS = 89_478_485
"""Of one picture; where Pillow begins to warn of decompression bombs."""
_MODES = {1: "L", 3: "RGB"}
_GREY = ("1", "L", "LA")
_DEEP = ("I", "F")


def read_picture(path: Path, *, size: tuple[int, int] | None, channels: int | None) -> np.ndarray:
    """Read an image file as (H, W, C) uint8: C is `channels`, or 1 for a grey file and 3 for any other.

    Palettes become colour, transparency is dropped. Raises `InputError` for a file that is no image, or holds more than
    8 bits per channel.
    """
    from PIL import Image

    try:
        require_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # There is a limit of our own.
            # Named, lest a file be sniffed for other formats, some of which start programs.
            opened = Image.open(path, formats=FORMATS)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {opened.width}x{opened.height} are more than the limit of {MAX_PIXELS} pixels; scale it "
                    "down"
                )
            if opened.mode.startswith(_DEEP):
                raise InputError(f"{path}: has more than 8 bits per channel ({opened.mode}); save it with 8")
            opened.load()
            return _converted(opened, size, channels or (1 if opened.mode in _GREY else 3))
    except InputError:
        raise
    except Exception as error:  # A damaged file makes the decoder fail in any way.
        raise InputError(f"{path}: cannot be read as an image ({error}); replace or remove it") from None


def convert_pictures(pixels: np.ndarray, *, size: tuple[int, int] | None, channels: int | None) -> np.ndarray:
    """Return pictures (N, H, W, C) uint8, C 1 or 3, resized to `size` (height, width) and with `channels` channels."""
    from PIL import Image

    wanted = channels or pixels.shape[-1]
    if (size is None or size == pixels.shape[1:3]) and wanted == pixels.shape[-1]:
        return pixels
    pictures = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    return np.stack([_converted(Image.fromarray(picture), size, wanted) for picture in pictures])


def resize_masks(masks: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Return masks (N, H, W) bool at the `size` (height, width), each pixel that of the nearest."""
    if size is None or size == masks.shape[1:]:
        return masks
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(size, masks.shape[1:], strict=True))
    return np.asarray(masks[:, rows.astype(int)[:, None], columns.astype(int)])


def _converted(picture: Image, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    from PIL.Image import Resampling

    picture = picture.convert(_MODES[channels])
    if size is not None and size != (picture.height, picture.width):
        # Bilinear with antialiasing, which is what torchvision's Resize does, too.
        picture = picture.resize((size[1], size[0]), Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return pixels if channels == 3 else pixels[..., None]  # noqa: PLR2004  Colour.
