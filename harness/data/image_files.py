"""Single pictures: read upright, decoded by any of several libraries, saved as JPEG and PNG."""

from __future__ import annotations

import importlib
import io
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from harness.base.errors import DataError, InputError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from PIL.Image import Image
    from torch import Tensor

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Accepted formats of pictures, by Pillow's names."""
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Endings of file names in these formats."""
MAX_PIXELS = 89_478_485
"""Most pixels of one picture; above, Pillow warns of decompression bombs."""
_GRAY_MODES = {"1", "L", "LA", "La"}
"""Pillow's modes of pictures without color."""
_opening = threading.Lock()
"""Lock for opening a picture, which silences warnings of the whole process.

Decoding runs in parallel.
"""
_EXIF_ORIENTATION = 0x0112
"""The tag of the orientation in EXIF metadata."""
_WITH_ORIENTATION = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""Entries of a picture's metadata that may have its orientation."""
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""By EXIF orientation, Pillow's number of the transposition that makes a picture upright."""


@contextmanager
def _opened(content: bytes, where: str) -> Iterator[Image]:
    """Open a picture without decoding it.

    Raises `InputError` for any error, also for one of the block, which decodes the picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            # MAX_PIXELS is the limit here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Without `formats`, Pillow tries all formats, and some of them start programs.
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        with opened:
            _expect_limits(opened, where)
            yield opened
    except InputError:
        raise
    except UnidentifiedImageError:
        expected = f"expected one of {', '.join(FORMATS)}"
        raise DataError(
            f"{where}: cannot be read as an image ({expected}); replace or remove it"
        ) from None
    except Exception as error:  # The decoder may raise any exception for a damaged file.
        raise DataError(
            f"{where}: cannot be read as an image ({error}); replace or remove it"
        ) from None


def _expect_limits(picture: Image, where: str) -> None:
    """Raise `InputError` for a picture with too many pixels, or with over 8 bits per channel."""
    if picture.width * picture.height > MAX_PIXELS:
        raise DataError(
            f"{where}: has {picture.width}x{picture.height} pixels, "
            f"the limit is {MAX_PIXELS} pixels; scale it down"
        )
    depth = _depth_over_8_bits(picture)
    if depth:
        raise DataError(f"{where}: has more than 8 bits per channel ({depth}); save it with 8")


def _depth_over_8_bits(picture: Image) -> str:
    """Return the mode or depth of a picture with over 8 bits per channel, empty for others."""
    if picture.mode.startswith(("I", "F")):
        return picture.mode
    # Pillow reads color with 16 bits per channel as if it had 8: only its decoder's arguments,
    # of the first tile, tell the difference.
    tiles = getattr(picture, "tile", None)
    if tiles and ";16" in str(tiles[0].args):
        return "16 bits per channel"
    return ""


def read_picture(
    content: bytes, *, where: str = "a picture", upright: bool = True, reduced: int = 1
) -> Image:
    """Return the picture in the bytes of a file, decoded, with its EXIF orientation applied.

    Args:
        content: The bytes of the file.
        where: The name of the picture in messages.
        upright: Apply the EXIF orientation; if false, the stored orientation remains.
        reduced: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size.

    Raises:
        InputError: The bytes are no image, are too large, or hold more than 8 bits per channel.
    """
    with _opened(content, where) as opened:
        if reduced != 1:
            opened.draft(None, (opened.width // reduced, opened.height // reduced))
        opened.load()
        if not upright:
            return opened
        return _upright(opened, _orientation(opened))


def format_and_orientation(content: bytes, *, where: str) -> tuple[str, int]:
    """Return the format of a picture in a file, one of `FORMATS`, and its EXIF orientation.

    The orientation is 1 for an upright picture. Raises `InputError` as `read_picture` does.
    """
    with _opened(content, where) as opened:
        return str(opened.format), _orientation(opened)


def _orientation(picture: Image) -> int:
    """Return the EXIF orientation of a picture, 1 for upright, unknown or unreadable."""
    try:
        orientation = int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # The metadata is damaged.
        return 1
    if orientation not in _TURNS:
        return 1
    return orientation


def _upright(picture: Image, orientation: int) -> Image:
    """Return a picture turned upright by its EXIF orientation.

    Its metadata lose the orientation, since a transform may apply that again.
    """
    if orientation == 1:
        return picture
    turned = picture.transpose(_TURNS[orientation])  # type: ignore[arg-type]
    turned.info = {
        name: value for name, value in picture.info.items() if name not in _WITH_ORIENTATION
    }
    return turned


def in_channels(picture: Image, channels: int | None = None) -> Image:
    """Return a PIL picture in gray (1 channel) or RGB (3), by default as the picture."""
    if channels is None:
        channels = 3
        if picture.mode in _GRAY_MODES:
            channels = 1
    mode = "RGB"
    if channels == 1:
        mode = "L"
    if picture.mode == mode:
        return picture
    return picture.convert(mode)


def levels_of(picture: Image) -> np.ndarray:
    """Return the levels of a picture, (H, W, C) uint8, RGB or gray."""
    content = in_channels(picture).tobytes()  # Faster than `np.asarray` for small pictures.
    levels = np.frombuffer(content, np.uint8)
    return levels.reshape(picture.height, picture.width, -1)


def as_picture(pixels: np.ndarray) -> Image:
    """Return pixels, (H, W) or (H, W, C) uint8, gray or color, as a PIL picture."""
    from PIL import Image

    height, width = pixels.shape[:2]
    mode = "RGB"
    if pixels.size == height * width:
        mode = "L"
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def as_png(pixels: np.ndarray, *, compress_level: int = -1) -> bytes:
    """Return the content of a PNG file with exactly these pixels, (C, H, W) uint8, gray or color.

    `compress_level` is zlib's, from 0 to 9; -1 is its default.
    """
    file = io.BytesIO()
    picture = as_picture(pixels.transpose(1, 2, 0))
    picture.save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


class Codec(NamedTuple):
    """A library that decodes pictures.

    Attributes:
        module: The module that is imported.
        title: A format of its name and version as text, whose fields are the version's parts.
        formats: The formats that it decodes, by Pillow's names.
    """

    module: str
    title: str
    formats: tuple[str, ...]


CODECS: Mapping[str, Codec] = {
    "pillow": Codec("PIL", "Pillow {0}", FORMATS),
    "opencv": Codec("cv2", "OpenCV {0}", ("BMP", "JPEG", "PNG", "TIFF", "WEBP")),
    "torchvision": Codec("torchvision", "torchvision {0}.{1}", ("JPEG", "PNG")),
    "ffmpeg": Codec("av", "FFmpeg by PyAV {0}", ("JPEG", "PNG")),
    "simplejpeg": Codec("simplejpeg", "simplejpeg {0} with the fast DCT", ("JPEG",)),
}
"""The libraries that decode pictures."""


def _decoded(library: str, content: bytes) -> np.ndarray:
    """Return the pixels that a library other than Pillow decodes a file to, (H, W, 3) uint8."""
    return np.asarray(_DECODERS[library](content))


def _by_opencv(content: bytes) -> np.ndarray:
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise ValueError("it returns nothing")
    return pixels[..., ::-1]


def _by_torchvision(content: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_image

    file = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    pixels: Tensor = decode_image(file, mode=ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).numpy()


def _by_ffmpeg(content: bytes) -> Any:
    import av

    with av.open(io.BytesIO(content), mode="r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def _by_simplejpeg(content: bytes) -> Any:
    import simplejpeg

    return simplejpeg.decode_jpeg(content, fastdct=True)  # The default of `tf.io.decode_jpeg`.


_DECODERS: Mapping[str, Callable[[bytes], Any]] = {
    "opencv": _by_opencv,
    "torchvision": _by_torchvision,
    "ffmpeg": _by_ffmpeg,
    "simplejpeg": _by_simplejpeg,
}


def exact_version(library: str) -> str:
    """Return the version of a library that makes pixels."""
    module_name = library
    if library in CODECS:
        module_name = CODECS[library].module
    module = importlib.import_module(module_name)
    return str(module.__version__)


@dataclass(frozen=True)
class Decode:
    """The library that decodes a file.

    Pillow also decodes at 1/2, 1/4 or 1/8 of a picture's size in each direction, `reduced`.
    """

    library: Literal["pillow", "opencv", "torchvision", "ffmpeg", "simplejpeg"] = "pillow"
    reduced: int = 1

    def __str__(self) -> str:
        version_parts = exact_version(self.library).split(".")
        title = CODECS[self.library].title.format(*version_parts)
        if self.reduced == 1:
            return title
        return f"{title} at 1/{self.reduced} size"

    def apply(self, content: bytes, *, upright: bool, where: str) -> Image:
        """Return the picture in a file, turned as its EXIF says if `upright`.

        Raises `InputError`, which names `where`, for a file that the library cannot decode.
        """
        if self.library == "pillow":
            return read_picture(content, where=where, upright=upright, reduced=self.reduced)

        kind, orientation = format_and_orientation(content, where=where)
        formats = CODECS[self.library].formats
        if kind not in formats:
            raise PipelineError(
                f"{where}: {self.library} does not decode {kind}; "
                f"expected one of {', '.join(formats)}"
            )
        try:
            picture = as_picture(_decoded(self.library, content))
        except Exception as error:  # A damaged file makes a decoder fail in any way.
            raise PipelineError(
                f"{where}: {self.library} cannot decode it ({error}); replace or remove it"
            ) from None
        if not upright:
            return picture
        return _upright(picture, orientation)


@dataclass(frozen=True)
class Orient:
    """The use of the EXIF orientation: a picture follows it, or stays as stored."""

    exif: bool = True

    def __str__(self) -> str:
        if self.exif:
            return "EXIF applied"
        return "EXIF ignored"


Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
LATE = " after resizing"
"""Words for a stage that comes after resizing."""


@dataclass(frozen=True)
class Jpeg:
    """A picture saved as JPEG and read again, as a client or a proxy does that sends it on.

    It happens before resizing, or after it if `late`.
    """

    quality: int
    subsampling: Subsampling = "4:2:0"
    late: bool = False

    def __str__(self) -> str:
        jpeg = f"JPEG {self.quality} {self.subsampling}"
        if self.late:
            return jpeg + LATE
        return jpeg

    def apply(self, picture: Image) -> Image:
        """Return what is read of the saved picture, in gray or RGB, by Pillow."""
        picture = in_channels(picture)
        settings: dict[str, Any] = {"quality": self.quality}
        if picture.mode != "L":
            settings["subsampling"] = self.subsampling
        file = io.BytesIO()
        picture.save(file, "JPEG", **settings)
        return read_picture(file.getvalue())
