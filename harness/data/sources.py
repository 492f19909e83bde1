"""Where test images come from: `fashion-mnist`, `folder:PATH` or `npz:PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.fashion_mnist import load_fashion_mnist
from harness.data.folder import load_folder
from harness.data.npz import load_npz
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.data.images import LabelledImages


def load_images(spec: str, *, size: tuple[int, int] | None = None, channels: int | None = None) -> LabelledImages:
    """Load the labelled test images that a `--stress-data` specification names.

    `fashion-mnist` is the embedded test split. For `npz:PATH` see `load_npz`, for `folder:PATH` see `load_folder`;
    their images are resized to `size` (height, width) and made grey (1 channel) or colour (3), None for as they are.
    Raises `InputError` for anything else.
    """
    kind, _, path = spec.partition(":")
    if spec == "fashion-mnist":
        if size is not None or channels is not None:
            raise InputError(
                "--stress-size and --stress-channels are for images of a folder or npz file; Fashion-MNIST's are "
                "28x28 pixels and grey"
            )
        return load_fashion_mnist("test")
    if kind == "npz" and path:
        return load_npz(Path(path), size=size, channels=channels)
    if kind == "folder" and path:
        return load_folder(Path(path), size=size, channels=channels)
    raise InputError(f"--stress-data {spec}: unknown data; expected fashion-mnist, folder:PATH or npz:PATH")
