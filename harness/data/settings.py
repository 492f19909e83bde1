"""The settings of test images and of their pipeline; this module does not need NumPy."""

from __future__ import annotations

from harness.base.settings import Setting
from harness.data.sources import specs_in_words

DATA_SETTINGS = (
    Setting(
        "data",
        f"The labeled test images: {specs_in_words(explained=True)} (default: fashion-mnist).",
        "data",
        default="fashion-mnist",
        metavar="SPEC",
        reads=True,
    ),
    Setting(
        "size",
        "Stretch images to this size, such as 64 or 64x96. Images of several sizes need it, or resize with crop, or "
        "transform. Not for fashion-mnist (default: unchanged).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "channels",
        "Load images as gray, 1, or as color, 3; not for fashion-mnist (default: unchanged).",
        "data",
        type=int,
        choices=(1, 3),
    ),
    Setting(
        "resize",
        "Resize the shorter side of images to this length, the other in proportion (default: unchanged).",
        "data",
        metavar="PIXELS",
    ),
    Setting(
        "crop",
        "Keep the center of images, after resize, such as 224 (default: the whole image).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "interpolation",
        "The interpolation of resize and size (default: bilinear).",
        "data",
        choices=("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    ),
    Setting(
        "antialias",
        "Antialias while resizing: yes as torchvision does for PIL images, no as it may for tensors (default: yes).",
        "data",
        default="yes",
        choices=("yes", "no"),
    ),
    Setting(
        "transform",
        "A pipeline that replaces these options: module:callable, timm or torchvision. A callable takes a picture "
        "(PIL, RGB) and always returns the same tensor (C, H, W) or array, in [0, 1] or uint8. The words timm and "
        "torchvision stand for the network's own pipeline, by timm's data config or torchvision's default weights. A "
        "last Normalize of torchvision becomes the network's, unless the option `normalisation` sets another "
        "(default: none).",
        "data",
        metavar="SPEC",
        reads=True,
    ),
)
"""The settings of `DataOptions`."""
