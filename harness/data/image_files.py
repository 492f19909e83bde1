"""Single pictures: read upright in the documented formats, decoded by any library, saved as JPEG and PNG."""

from __future__ import annotations

import importlib
import io
import math
import threading
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from harness.base.errors import DataError, InputError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL.Image import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""Accepted formats of pictures, by Pillow's names."""
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Endings of file names in these formats."""
MAX_PIXELS = 89_478_485
"""Most pixels of one picture; above, Pillow warns of decompression bombs."""
_opening = threading.Lock()
"""Lock for opening a picture, which silences warnings of the whole process; decoding runs in parallel."""
_WITH_ORIENTATION = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})
"""Entries of a picture's metadata that may have its orientation."""
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""By EXIF orientation, Pillow's number of the transposition that makes a picture upright."""


@contextmanager
def _opened(content: bytes, where: str) -> Iterator[Image]:
    """Open a picture without decoding it; raises `InputError` for any error, also one of the block's decoding."""
    from PIL import Image, UnidentifiedImageError

    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # MAX_PIXELS is the limit here.
            # Without `formats`, Pillow tries all formats, and some of them start programs.
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                found = f"{opened.width}x{opened.height} pixels, the limit is {MAX_PIXELS} pixels; scale it down"
                raise DataError(f"{where}: has {found}")
            # Pillow reads color with 16 bits per channel as if it had 8; only its decoder's arguments differ.
            stored = str(tile[0].args) if (tile := getattr(opened, "tile", None)) else ""
            deep = "16 bits per channel" if ";16" in stored else ""
            if deep := opened.mode if opened.mode.startswith(("I", "F")) else deep:
                raise DataError(
                    f"{where}: has more than 8 bits per channel ({deep}); save it with 8"
                )
            yield opened
    except InputError:
        raise
    except Exception as error:  # The decoder may raise any exception for a damaged file.
        unknown = isinstance(error, UnidentifiedImageError)
        why = f"expected one of {', '.join(FORMATS)}" if unknown else error
        raise DataError(
            f"{where}: cannot be read as an image ({why}); replace or remove it"
        ) from None


def read_picture(
    content: bytes, *, where: str = "a picture", upright: bool = True, reduced: int = 1
) -> Image:
    """Return the picture in the bytes of a file, decoded, with its EXIF orientation applied.

    With `upright=False`, the stored orientation remains. A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size
    (`reduced`). Raises `InputError`, which names `where`, for bytes that are no image, are too large, or hold more than
    8 bits per channel.
    """
    with _opened(content, where) as opened:
        if reduced != 1:
            opened.draft(None, (opened.width // reduced, opened.height // reduced))
        opened.load()
        return _upright(opened, _orientation(opened)) if upright else opened


def format_and_orientation(content: bytes, *, where: str) -> tuple[str, int]:
    """Return the format of a picture in a file, one of `FORMATS`, and its EXIF orientation, 1 for upright.

    Raises `InputError` as `read_picture` does.
    """
    with _opened(content, where) as opened:
        return str(opened.format), _orientation(opened)


def _orientation(picture: Image) -> int:
    try:
        found = int(picture.getexif().get(0x0112, 1))
    except Exception:  # The metadata is damaged.
        return 1
    return found if found in _TURNS else 1


def _upright(picture: Image, orientation: int) -> Image:
    """Return a picture turned upright, without the orientation in its metadata: a transform may apply that again."""
    if orientation == 1:
        return picture
    turned = picture.transpose(_TURNS[orientation])  # type: ignore[arg-type]
    turned.info = {
        name: value for name, value in picture.info.items() if name not in _WITH_ORIENTATION
    }
    return turned


def in_channels(picture: Image, channels: int | None = None) -> Image:
    """Return a PIL picture in gray (1 channel) or RGB (3), by default as the picture."""
    mode = (
        "L"
        if channels == 1 or (channels is None and picture.mode in {"1", "L", "LA", "La"})
        else "RGB"
    )
    return picture if picture.mode == mode else picture.convert(mode)


def levels_of(picture: Image) -> np.ndarray:
    """Return the levels of a picture, (H, W, C) uint8, RGB or gray."""
    content = in_channels(picture).tobytes()  # Faster than `np.asarray` for small pictures.
    return np.frombuffer(content, np.uint8).reshape(picture.height, picture.width, -1)


def as_picture(pixels: np.ndarray) -> Image:
    """Return pixels, (H, W) or (H, W, C) uint8, gray or color, as a PIL picture."""
    from PIL import Image

    mode = "L" if pixels.size == math.prod(pixels.shape[:2]) else "RGB"
    return Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())


def as_png(pixels: np.ndarray, *, compress_level: int = -1) -> bytes:
    """Return the content of a PNG file with exactly these pixels, (C, H, W) uint8, gray or color.

    `compress_level` is zlib's, from 0 to 9; -1 is its default.
    """
    file = io.BytesIO()
    as_picture(pixels.transpose(1, 2, 0)).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


class Codec(NamedTuple):
    """A library that decodes pictures: its module, its name and version as text, and its formats by Pillow's names."""

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


def _decoded(library: str, content: bytes) -> Any:
    """Return the pixels that a library other than Pillow makes of a file, (H, W, 3) uint8."""
    if library == "opencv":
        import cv2

        how = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), how)
        if pixels is None:
            raise ValueError("it returns nothing")
        return pixels[..., ::-1]
    if library == "torchvision":
        import torch
        from torchvision.io import ImageReadMode, decode_image

        file = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return decode_image(file, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()
    if library == "ffmpeg":
        import av

        with av.open(io.BytesIO(content)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24")
    import simplejpeg

    return simplejpeg.decode_jpeg(content, fastdct=True)  # The default of `tf.io.decode_jpeg`.


def exact_version(library: str) -> str:
    """Return the version of a library that makes pixels."""
    module = CODECS[library].module if library in CODECS else library
    return str(importlib.import_module(module).__version__)


@dataclass(frozen=True)
class Decode:
    """The library that decodes a file; Pillow also at 1/2, 1/4 or 1/8 of its size in each direction, `reduced`."""

    library: Literal["pillow", "opencv", "torchvision", "ffmpeg", "simplejpeg"] = "pillow"
    reduced: int = 1

    def __str__(self) -> str:
        version = CODECS[self.library].title.format(*exact_version(self.library).split("."))
        return version + (f" at 1/{self.reduced} size" if self.reduced != 1 else "")

    def apply(self, content: bytes, *, upright: bool, where: str) -> Image:
        """Return the picture in a file, turned as its EXIF says if `upright`.

        Raises `InputError`, which names `where`, for a file that the library cannot decode.
        """
        if self.library == "pillow":
            return read_picture(content, where=where, upright=upright, reduced=self.reduced)
        kind, orientation = format_and_orientation(content, where=where)
        if kind not in (formats := CODECS[self.library].formats):
            expected = ", ".join(formats)
            raise PipelineError(
                f"{where}: {self.library} does not decode {kind}; expected one of {expected}"
            )
        try:
            pixels = as_picture(_decoded(self.library, content))
        except Exception as error:  # A damaged file makes a decoder fail in any way.
            raise PipelineError(
                f"{where}: {self.library} cannot decode it ({error}); replace or remove it"
            ) from None
        return _upright(pixels, orientation) if upright else pixels


@dataclass(frozen=True)
class Orient:
    """The use of the EXIF orientation: a picture follows it, or stays as stored."""

    exif: bool = True

    def __str__(self) -> str:
        return "EXIF applied" if self.exif else "EXIF ignored"


Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
LATE = " after resizing"


@dataclass(frozen=True)
class Jpeg:
    """A picture saved as JPEG and read again, as a client or a proxy does that sends it on; `late` after resizing."""

    quality: int
    subsampling: Subsampling = "4:2:0"
    late: bool = False

    def __str__(self) -> str:
        return f"JPEG {self.quality} {self.subsampling}{LATE if self.late else ''}"

    def apply(self, picture: Image) -> Image:
        """Return what is read of the saved picture, in gray or RGB, by Pillow."""
        file, saved = io.BytesIO(), in_channels(picture)
        settings: dict[str, Any] = {} if saved.mode == "L" else {"subsampling": self.subsampling}
        saved.save(file, "JPEG", quality=self.quality, **settings)
        return read_picture(file.getvalue())
