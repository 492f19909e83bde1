"""Single pictures: read upright in the documented formats, decoded by any library, saved as JPEG and PNG."""

from __future__ import annotations

import importlib
import io
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.base.errors import DataError, InputError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
    from PIL import Image, UnidentifiedImageError

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
    except UnidentifiedImageError:
        expected = f"expected one of {', '.join(FORMATS)}"
        raise DataError(f"{where}: cannot be read as an image ({expected}); replace or remove it") from None
    except Exception as error:  # The decoder may raise any exception for a damaged file.
        raise DataError(f"{where}: cannot be read as an image ({error}); replace or remove it") from None


def in_channels(picture: Image, channels: int | None) -> Image:
    """Return a PIL picture in gray (1 channel) or RGB (3), by default as the picture."""
    mode = "L" if channels == 1 or (channels is None and picture.mode in _GREY) else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def levels_of(picture: np.ndarray | Image) -> np.ndarray:
    """Return the levels of a picture, (H, W, C) uint8, RGB or gray; an array stays unchanged."""
    return picture if isinstance(picture, np.ndarray) else np.atleast_3d(np.array(in_channels(picture, None)))


def as_picture(pixels: np.ndarray | Image) -> Image:
    """Return pixels (H, W, C) uint8, gray or color, as a PIL picture; such a picture stays unchanged."""
    if not isinstance(pixels, np.ndarray):
        return pixels
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


Library = Literal["pillow", "opencv", "torchvision", "ffmpeg", "simplejpeg"]
DECODES: Mapping[str, tuple[str, ...]] = {
    "pillow": FORMATS,
    "opencv": ("BMP", "JPEG", "PNG", "TIFF", "WEBP"),
    "torchvision": ("JPEG", "PNG"),
    "ffmpeg": ("JPEG", "PNG"),
    "simplejpeg": ("JPEG",),
}
"""The formats that each library decodes, by Pillow's names."""
MODULES = {"pillow": "PIL", "opencv": "cv2", "ffmpeg": "av"}
"""The modules of libraries with another name."""
_TITLES = {
    "pillow": "Pillow {}",
    "opencv": "OpenCV {}",
    "torchvision": "torchvision {}",
    "ffmpeg": "FFmpeg by PyAV {}",
    "simplejpeg": "simplejpeg {} with the fast DCT",
}
_TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}
"""By EXIF orientation, quarter turns counter-clockwise, and whether the result is then flipped left to right."""
_SUBSAMPLINGS = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
LATE = " after resizing"


def exact_version(library: str) -> str:
    """Return the version of a library that makes pixels."""
    return str(importlib.import_module(MODULES.get(library, library)).__version__)


@dataclass(frozen=True)
class Decode:
    """The library that decodes a file, at one of `reduced` times its size in each direction: 1, 2, 4 or 8."""

    library: Library = "pillow"
    reduced: int = 1

    def __str__(self) -> str:
        parts = exact_version(self.library).split(".")[: 2 if self.library == "torchvision" else 1]
        version = _TITLES[self.library].format(".".join(parts))
        return version + (f" at 1/{self.reduced} size" if self.reduced != 1 else "")

    def apply(self, content: bytes, *, upright: bool, where: str) -> np.ndarray:
        """Return the picture in a file, (H, W, C) uint8, RGB or gray, turned as its EXIF says if `upright`.

        Raises `InputError`, which names `where`, for a file that the library cannot decode.
        """
        if self.library == "pillow":
            return levels_of(read_picture(content, where=where, upright=upright, reduced=self.reduced))
        kind, orientation = format_and_orientation(content, where=where)
        if kind not in DECODES[self.library]:
            expected = ", ".join(DECODES[self.library])
            raise PipelineError(f"{where}: {self.library} does not decode {kind}; expected one of {expected}")
        try:
            pixels = _by_opencv(content, self.reduced) if self.library == "opencv" else _WHOLE[self.library](content)
        except Exception as error:  # A damaged file makes a decoder fail in any way.
            raise PipelineError(f"{where}: {self.library} cannot decode it ({error}); replace or remove it") from None
        quarters, flipped = _TURNS.get(orientation, (0, False)) if upright else (0, False)
        turned = np.rot90(pixels, quarters)
        return np.ascontiguousarray(turned[:, ::-1] if flipped else turned)


@dataclass(frozen=True)
class Orient:
    """The use of the EXIF orientation: a picture follows it, or stays as stored."""

    exif: bool = True

    def __str__(self) -> str:
        return "EXIF applied" if self.exif else "EXIF ignored"


@dataclass(frozen=True)
class Jpeg:
    """A picture saved as JPEG and read again, as a client or a proxy does that sends it on; `late` after resizing."""

    quality: int
    subsampling: Subsampling = "4:2:0"
    late: bool = False

    def __str__(self) -> str:
        return f"JPEG {self.quality} {self.subsampling}{LATE if self.late else ''}"

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return what is read of the saved picture, by Pillow."""
        file = io.BytesIO()
        gray = pixels.shape[2] == 1
        settings: dict[str, Any] = {} if gray else {"subsampling": _SUBSAMPLINGS[self.subsampling]}
        as_picture(pixels).save(file, "JPEG", quality=self.quality, **settings)
        return np.atleast_3d(np.array(read_picture(file.getvalue())))


def _by_opencv(content: bytes, reduced: int) -> np.ndarray:
    import cv2

    flag = cv2.IMREAD_COLOR if reduced == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduced}")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("it returns nothing")
    return pixels[..., ::-1]


def _by_torchvision(content: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_image

    pixels = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return np.asarray(pixels.permute(1, 2, 0).numpy())


def _by_ffmpeg(content: bytes) -> np.ndarray:
    import av

    with av.open(io.BytesIO(content)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))


def _by_simplejpeg(content: bytes) -> np.ndarray:
    """Return what libjpeg-turbo makes by its fast DCT, the default of `tf.io.decode_jpeg`."""
    import simplejpeg

    return np.asarray(simplejpeg.decode_jpeg(content, fastdct=True))


_WHOLE: Mapping[str, Callable[[bytes], np.ndarray]] = {
    "torchvision": _by_torchvision,
    "ffmpeg": _by_ffmpeg,
    "simplejpeg": _by_simplejpeg,
}
"""The decoders that give a picture in its own size."""
