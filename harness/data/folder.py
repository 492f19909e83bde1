"""Images in a folder: one folder per class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.data.budget import expect_proportion
from harness.data.image_files import read_picture
from harness.data.images import LabelledImages
from harness.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_EXPECTED = f"expected one folder per class with files in {', '.join(sorted(_SUFFIXES))}"


def load_folder(path: Path, *, size: tuple[int, int] | None = None, channels: int | None = None) -> LabelledImages:
    """Load a folder that holds one folder per class, named like it, with its images.

    Classes and files are taken in the order of their names, so that the labels are those of torchvision's
    `ImageFolder`. Images are resized to `size` (height, width), which need not keep their shape, and made grey (1
    channel) or colour (3); without these they must all be alike. Raises `InputError` for what is not so.
    """
    files = _files(path)
    pixels: list[np.ndarray] = []
    for file, _ in _with_progress(files):
        pixels.append(read_picture(file, size=size, channels=channels))
        if len(pixels) == 1:
            expect_proportion(path, needed=len(files) * pixels[0].nbytes, stored=_stored(files))
        (height, width, depth), (first_height, first_width, first_depth) = pixels[-1].shape, pixels[0].shape
        if (height, width) != (first_height, first_width):
            raise InputError(
                f"{file}: is {height}x{width} pixels (height x width), {files[0][0]} is {first_height}x{first_width}; "
                "expected images of one size, say which with --stress-size"
            )
        if depth != first_depth:
            kinds = {1: "grey", 3: "colour"}
            raise InputError(
                f"{file}: is {kinds[depth]}, {files[0][0]} is {kinds[first_depth]}; expected images of one kind, say "
                "which with --stress-channels 1 or 3"
            )
    import torch

    return LabelledImages(
        pixels=torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([label for _, label in files]),
        classes=tuple(folder.name for folder in _folders(path)),
        name=path.resolve().name,
        split="test",
    )


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected one folder per class in it")
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _files(path: Path) -> list[tuple[Path, int]]:
    folders = _folders(path)
    if not folders:
        raise InputError(f"{path}: no folders in it; {_EXPECTED}")
    files: list[tuple[Path, int]] = []
    for label, folder in enumerate(folders):
        found = [(file, label) for file in sorted(folder.iterdir()) if file.suffix.lower() in _SUFFIXES]
        if not found:
            deeper = any(child.is_dir() for child in folder.iterdir())
            hint = f"; if its folders are the classes, name folder:{folder}" if deeper else ", or remove the folder"
            raise InputError(f"{folder}: no images in it; {_EXPECTED}{hint}")
        files += found
    return files


def _stored(files: list[tuple[Path, int]]) -> int:
    """Return how many bytes the files take on disk, each once, whatever names it has."""
    statuses = [file.stat() for file, _ in files]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in statuses}.values())


def _with_progress(files: list[tuple[Path, int]]) -> list[tuple[Path, int]]:
    from tqdm import tqdm

    return tqdm(files, desc="reading images", unit="image", delay=2, leave=False)  # type: ignore[return-value]
