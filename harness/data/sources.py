"""Where test images come from: `fashion-mnist`, `folder:PATH` or `npz:PATH`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.data.fashion_mnist import load_fashion_mnist
from harness.data.images import LabelledImages
from harness.errors import InputError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def load_images(spec: str) -> LabelledImages:
    """Load the labelled test images that a `--stress-data` specification names.

    `fashion-mnist` is the embedded test split. `npz:PATH` holds `images`, (N, H, W) or (N, H, W, C) uint8, `labels`,
    (N,) integers from 0, and optionally `classes`, their names, and `masks`, (N, H, W) bool or uint8, zero where the
    object is not. `folder:PATH` holds one folder per class with images of one size. Raises `InputError` for anything
    else.
    """
    kind, _, path = spec.partition(":")
    if spec == "fashion-mnist":
        return load_fashion_mnist("test")
    if kind == "npz" and path:
        return _load_npz(Path(path))
    if kind == "folder" and path:
        return _load_folder(Path(path))
    raise InputError(f"--stress-data {spec}: unknown data; expected fashion-mnist, folder:PATH or npz:PATH")


def _load_npz(path: Path) -> LabelledImages:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as an npz file of plain arrays ({error})") from None
    if missing := {"images", "labels"} - set(arrays):
        raise InputError(f"{path}: has no array {min(missing)!r}, only {sorted(arrays)}; expected images and labels")
    pixels, labels = arrays["images"], arrays["labels"]
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
        raise InputError(
            f"{path}: images are {pixels.dtype} of shape {pixels.shape}, expected uint8 (N, H, W) or (N, H, W, C)"
        )
    labels = labels.squeeze()
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer) or len(labels) == 0:
        raise InputError(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}, expected {len(pixels)} integers, one per image"
        )
    count = int(labels.max()) + 1
    classes = tuple(map(str, arrays.get("classes", range(count))))
    if labels.min() < 0 or count > len(classes):
        raise InputError(f"{path}: labels run from {labels.min()} to {count - 1}, expected 0 to {len(classes) - 1}")
    masks = arrays.get("masks")
    if masks is not None and (masks.dtype not in (np.bool_, np.uint8) or masks.shape != pixels.shape[:3]):
        raise InputError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}, expected bool or uint8 {pixels.shape[:3]}, one "
            "per image"
        )
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels  # noqa: PLR2004
    return LabelledImages(
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=classes,
        name=path.stem,
        split="test",
        masks=None if masks is None else torch.from_numpy(masks != 0),
    )


def _load_folder(path: Path) -> LabelledImages:
    from torchvision.io import ImageReadMode, decode_image

    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected one folder per class in it")
    folders = sorted(child for child in path.iterdir() if child.is_dir())
    files = [
        (file, label)
        for label, folder in enumerate(folders)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise InputError(
            f"{path}: no images found; expected one folder per class with files in {', '.join(sorted(_SUFFIXES))}"
        )
    images = []
    for file, _ in files:
        try:
            image = decode_image(str(file))
        except RuntimeError as error:
            raise InputError(f"{file}: cannot be decoded ({error})") from None
        # Palette, alpha and 16-bit files become plain colour.
        images.append(image if image.shape[0] == 1 else decode_image(str(file), mode=ImageReadMode.RGB))
        if images[-1].shape != images[0].shape:
            raise InputError(
                f"{file}: is {tuple(images[-1].shape)} (channels, height, width), {files[0][0]} is "
                f"{tuple(images[0].shape)}; expected images of one size and kind"
            )
    return LabelledImages(
        pixels=torch.stack(images),
        labels=torch.tensor([label for _, label in files]),
        classes=tuple(folder.name for folder in folders),
        name=path.name,
        split="test",
    )
