"""The settings that name images, and how pixels are made of them; nothing here needs NumPy."""

from __future__ import annotations

from harness.base.settings import Setting
from harness.data.sources import specs_in_words

DATA_SETTINGS = (
    Setting(
        "data",
        f"The labelled test images: {specs_in_words(explained=True)} (default: fashion-mnist).",
        "data",
        default="fashion-mnist",
        metavar="SPEC",
        reads=True,
    ),
    Setting(
        "size",
        "The size that images are stretched to, such as 64 or 64x96; when they are of several sizes this is needed, or "
        "resize with crop, or transform. None of these is for fashion-mnist (default: as they are).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "channels",
        "Load images as grey, 1, or as colour, 3; not for fashion-mnist (default: as they are).",
        "data",
        type=int,
        choices=(1, 3),
    ),
    Setting(
        "resize",
        "The length that the shorter side of images is resized to, the other in proportion (default: unchanged).",
        "data",
        metavar="PIXELS",
    ),
    Setting(
        "crop",
        "The middle of images that is kept, after resize, such as 224 (default: all of them).",
        "data",
        metavar="HEIGHTxWIDTH",
    ),
    Setting(
        "interpolation",
        "How images are resized (default: bilinear).",
        "data",
        choices=("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    ),
    Setting(
        "antialias",
        "Whether resizing is antialiased, as torchvision's of PIL images is, or not, as its of tensors may be "
        "(default: yes).",
        "data",
        default="yes",
        choices=("yes", "no"),
    ),
    Setting(
        "transform",
        "The pipeline in place of these: module:callable, called with each picture (PIL, RGB) for a tensor (C, H, W) "
        "or array in [0, 1] or of bytes, the same every time; or timm or torchvision, the pipeline that the network of "
        "model was made with by timm's data config or torchvision's default weights. A last Normalize of torchvision's "
        "becomes the network's normalisation, unless normalisation says another (default: none).",
        "data",
        metavar="SPEC",
        reads=True,
    ),
)
"""The settings that `DataOptions` are made of."""
