"""Libraries that decode a picture: Pillow, OpenCV, torchvision, FFmpeg and simplejpeg, each as a server uses it."""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Literal

import numpy as np

from harness.base.errors import PipelineError
from harness.data.image_files import FORMATS, channels_of, format_and_orientation, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

Library = Literal["pillow", "opencv", "torchvision", "ffmpeg", "simplejpeg"]
DECODES: Mapping[str, tuple[str, ...]] = {
    "pillow": FORMATS,
    "opencv": ("BMP", "JPEG", "PNG", "TIFF", "WEBP"),
    "torchvision": ("JPEG", "PNG"),
    "ffmpeg": ("JPEG", "PNG"),
    "simplejpeg": ("JPEG",),
}
"""The formats that each library decodes, by Pillow's names."""
MODULES: Mapping[str, str] = {"torchvision": "torchvision", "ffmpeg": "av", "simplejpeg": "simplejpeg"}
"""The modules of libraries that need not be installed."""
REDUCTIONS = (1, 2, 4, 8)
_TURNS: Mapping[int, tuple[int, bool]] = {
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}
"""By EXIF orientation, quarter turns counter-clockwise, and whether the result is then flipped left to right."""


def version_of(library: str) -> str:
    """Return the name of a library with its major version, such as Pillow 12."""
    if library == "pillow":
        import PIL

        return f"Pillow {PIL.__version__.partition('.')[0]}"
    if library == "opencv":
        import cv2

        return f"OpenCV {cv2.__version__.partition('.')[0]}"
    if library == "torch":
        import torch

        return f"torch {torch.__version__.partition('.')[0]}"
    known = exact_version(library)
    if library == "torchvision":
        return f"torchvision {'.'.join(known.split('.')[:2])}"
    major = known.partition(".")[0]
    return f"FFmpeg by PyAV {major}" if library == "ffmpeg" else f"simplejpeg {major} with the fast DCT"


def exact_version(library: str) -> str:
    """Return the version of a library of `MODULES`."""
    return str(importlib.import_module(MODULES[library]).__version__)


def decoded_by(library: str, content: bytes, *, reduced: int, upright: bool, where: str) -> np.ndarray:
    """Return the picture in a file as a library decodes it, (H, W, C) uint8, RGB or gray.

    Raises `InputError`, which names `where`, for a file that the library cannot decode.
    """
    if library == "pillow":
        return _by_pillow(content, reduced=reduced, upright=upright, where=where)
    kind, orientation = format_and_orientation(content, where=where)
    if kind not in DECODES[library]:
        raise PipelineError(f"{where}: {library} does not decode {kind}; expected one of {', '.join(DECODES[library])}")
    try:
        pixels = _by_opencv(content, reduced) if library == "opencv" else _WHOLE[library](content)
    except Exception as error:  # A damaged file makes a decoder fail in any way.
        raise PipelineError(f"{where}: {library} cannot decode it ({error}); replace or remove it") from None
    return _turned(pixels, orientation) if upright else pixels


def _by_pillow(content: bytes, *, reduced: int, upright: bool, where: str) -> np.ndarray:
    return levels_of(read_picture(content, where=where, upright=upright, reduced=reduced))


def levels_of(picture: Image) -> np.ndarray:
    """Return the levels of a PIL picture, (H, W, C) uint8, RGB or gray."""
    if picture.mode not in {"L", "RGB"}:
        picture = picture.convert("L" if channels_of(picture) == 1 else "RGB")
    levels = np.array(picture)
    return levels if levels.ndim == 3 else levels[..., None]  # noqa: PLR2004  Color.


def _by_opencv(content: bytes, reduced: int) -> np.ndarray:
    import cv2

    if reduced not in REDUCTIONS:
        raise ValueError(f"reduced is {reduced}, expected one of {REDUCTIONS}")
    flag = cv2.IMREAD_COLOR if reduced == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduced}")
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("it returns nothing")
    return np.ascontiguousarray(pixels[..., ::-1])


def _by_torchvision(content: bytes) -> np.ndarray:
    import torch
    from torchvision.io import ImageReadMode, decode_image

    pixels = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def _by_ffmpeg(content: bytes) -> np.ndarray:
    import av

    with av.open(io.BytesIO(content)) as container:
        frame = next(container.decode(video=0))
        return np.ascontiguousarray(frame.to_ndarray(format="rgb24"))


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


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation == 1:
        return pixels
    quarters, flipped = _TURNS[orientation]
    turned = np.rot90(pixels, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if flipped else turned)
