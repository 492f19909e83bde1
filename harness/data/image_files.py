"""Single pictures: read from files or bytes in the documented formats only, upright, with 8 bits; written as PNG."""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Accepted formats of pictures, by Pillow's names."""
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Endings of file names in these formats."""
MAX_PIXELS = 89_478_485
"""Most pixels of one picture; above, Pillow warns of decompression bombs."""
_GREY = ("1", "L", "LA", "La")
_DEEP = ("I", "F")
_opening = threading.Lock()
"""Lock for opening a picture, which silences warnings of the whole process; decoding runs in parallel."""


def read_picture(content: bytes, *, where: str = "a picture", upright: bool = True, reduced: int = 1) -> Image:
    """Return the picture in the bytes of a file, decoded, with its EXIF orientation applied.

    With `upright=False`, the stored orientation remains. A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size
    (`reduced`). Raises `InputError`, which names `where`, for bytes that are no image, are too large, or hold more than
    8 bits per channel.
    """
    with _opened(content, where) as opened:
        if reduced != 1:
            opened.draft(None, (opened.width // reduced, opened.height // reduced))
        opened.load()
        return _upright(opened) if upright else opened


def format_and_orientation(content: bytes, *, where: str) -> tuple[str, int]:
    """Return the format of a picture in a file, one of `FORMATS`, and its EXIF orientation, from 1 (upright) to 8.

    Raises `InputError` as `read_picture` does.
    """
    with _opened(content, where) as opened:
        return str(opened.format), _orientation(opened)


@contextmanager
def _opened(content: bytes, where: str) -> Iterator[Image]:
    """Open a picture without decoding it; raises `InputError` for any error, also one of the block's decoding."""
    from PIL import Image

    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_PIXELS is the limit here.
            # Without `formats`, Pillow tries all formats, and some of them start programs.
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                found = f"{opened.width}x{opened.height} pixels, the limit is {MAX_PIXELS} pixels; scale it down"
                raise DataError(f"{where}: has {found}")
            if deep := _more_than_8_bits(opened):
                raise DataError(f"{where}: has more than 8 bits per channel ({deep}); save it with 8")
            yield opened
    except InputError:
        raise
    except Exception as error:  # The decoder may raise any exception for a damaged file.
        raise DataError(f"{where}: cannot be read as an image ({error}); replace or remove it") from None


def levels_of(picture: Image, channels: int | None = None) -> np.ndarray:
    """Return the levels of a PIL picture, (H, W, C) uint8: gray (1 channel) or RGB (3), by default as the picture."""
    mode = "L" if channels == 1 or (channels is None and picture.mode in _GREY) else "RGB"
    return np.atleast_3d(np.array(picture if picture.mode == mode else picture.convert(mode)))


def as_picture(pixels: np.ndarray) -> Image:
    """Return pixels (H, W, C) uint8, gray or color, as a PIL picture."""
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def has_transparency(picture: Image) -> bool:
    """Return whether a picture has transparency, which decoding drops."""
    return picture.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in picture.info


def resize_masks(masks: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Return masks (N, H, W) bool, resized to `size` (height, width) by nearest neighbors."""
    if size is None or size == masks.shape[1:]:
        return masks
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(size, masks.shape[1:], strict=True))
    return np.asarray(masks[:, rows.astype(int)[:, None], columns.astype(int)])


def _more_than_8_bits(opened: Image) -> str:
    """Return a description of more than 8 bits per channel; empty for other pictures.

    Pillow reads color with 16 bits per channel as if it had 8; only its decoder's arguments show the difference.
    """
    if opened.mode.startswith(_DEEP):
        return opened.mode
    stored = str(tile[0].args) if (tile := getattr(opened, "tile", None)) else ""
    return "16 bits per channel" if ";16" in stored else ""


def _orientation(picture: Image) -> int:
    try:
        found = int(picture.getexif().get(0x0112, 1))
    except Exception:  # The metadata is damaged.
        return 1
    return found if found in range(1, 9) else 1


def _upright(picture: Image) -> Image:
    from PIL import ImageOps

    try:
        return (_orientation(picture) != 1 and ImageOps.exif_transpose(picture, in_place=False)) or picture
    except Exception:  # As above.
        return picture


def as_png(pixels: np.ndarray, *, compress_level: int = -1) -> bytes:
    """Return the content of a PNG file with exactly these pixels, (C, H, W) uint8, gray or color.

    `compress_level` is zlib's, from 0 to 9; -1 is its default.
    """
    file = io.BytesIO()
    as_picture(pixels.transpose(1, 2, 0)).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()
