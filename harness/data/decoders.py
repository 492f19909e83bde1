"""Stages of a file: decoded by Pillow, OpenCV, torchvision, FFmpeg or simplejpeg, turned by EXIF, saved as JPEG."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import FORMATS, as_picture, format_and_orientation, levels_of, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
REDUCTIONS = (1, 2, 4, 8)
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

    if reduced not in REDUCTIONS:
        raise ValueError(f"reduced is {reduced}, expected one of {REDUCTIONS}")
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
