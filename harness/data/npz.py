"""Images in an npz file of NumPy arrays; MedMNIST's files as they are."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from harness.data.image_files import convert_pictures, resize_masks
from harness.data.images import LabelledImages
from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load_npz(
    path: Path, *, split: str = "test", size: tuple[int, int] | None = None, channels: int | None = None
) -> LabelledImages:
    """Load an npz file with `images`, (N, H, W) or (N, H, W, C) uint8, C 1 or 3, and `labels`, (N,) integers from 0.

    Optional are `masks`, (N, H, W) bool or uint8, zero where the object is not, and `classes`, their names; without
    these they are numbers. Where a file has several splits, as MedMNIST's have (Yang et al. 2023), the names begin with
    the split's, `test_images`, and labels may be (N, 1). Images are resized to `size` (height, width) and made grey (1
    channel) or colour (3). Raises `InputError` for anything else.
    """
    arrays = _read(path)
    begin = "" if "images" in arrays else f"{split}_"
    if missing := {f"{begin}images", f"{begin}labels"} - set(arrays):
        raise InputError(
            f"{path}: has no array {min(missing)!r}, only {', '.join(sorted(arrays))}; expected images and labels, or "
            f"{split}_images and {split}_labels"
        )
    pixels = _pixels(arrays[f"{begin}images"], path)
    labels = _labels(arrays[f"{begin}labels"], len(pixels), path)
    masks = arrays.get(f"{begin}masks")
    if masks is not None and (masks.dtype not in (np.bool_, np.uint8) or masks.shape != pixels.shape[:3]):
        raise InputError(
            f"{path}: masks are {masks.dtype} of shape {masks.shape}, expected bool or uint8 {pixels.shape[:3]}, one "
            "per image"
        )
    pixels = convert_pictures(pixels, size=size, channels=channels)
    import torch

    return LabelledImages(
        pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(labels),
        classes=_classes(arrays, labels, path),
        name=path.stem,
        split=split,
        masks=None if masks is None else torch.from_numpy(resize_masks(masks != 0, size)),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    expected = "expected an npz file of plain arrays, as np.savez writes"
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: holds a single array of shape {archive.shape}; {expected}")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {expected}") from None


def _pixels(pixels: np.ndarray, path: Path) -> np.ndarray:
    expected = "expected uint8 from 0 to 255, (N, height, width) or (N, height, width, channels) with 1 or 3 channels"
    found = f"{path}: images are {pixels.dtype} of shape {pixels.shape}"
    if np.issubdtype(pixels.dtype, np.floating):
        raise InputError(f"{found}, {expected}; of floats in [0, 1] save (images * 255).round().astype('uint8')")
    if pixels.ndim == 3:  # noqa: PLR2004  Without channels.
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 4:  # noqa: PLR2004  (N, H, W, C)
        raise InputError(f"{found}, {expected}")
    if pixels.shape[-1] not in {1, 3}:
        first = pixels.shape[1] in {1, 3}
        raise InputError(f"{found}, {expected}" + ("; move them with np.moveaxis(images, 1, -1)" if first else ""))
    if 0 in pixels.shape:
        raise InputError(f"{found}, there is nothing in them; {expected}")
    return pixels


def _labels(labels: np.ndarray, count: int, path: Path) -> np.ndarray:
    expected = f"expected {count} integers from 0, one per image"
    found = f"{path}: labels are {labels.dtype} of shape {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] > 1:  # noqa: PLR2004  (N, labels)
        raise InputError(f"{found}, several for an image; {expected}")
    if labels.shape not in {(count,), (count, 1)} or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{found}, {expected}")
    labels = labels.reshape(-1).astype(np.int64)
    if labels.min() < 0:
        raise InputError(f"{path}: labels run from {labels.min()}, {expected}")
    return labels


def _classes(arrays: Mapping[str, np.ndarray], labels: np.ndarray, path: Path) -> tuple[str, ...]:
    count = int(labels.max()) + 1
    classes = tuple(map(str, arrays.get("classes", np.arange(count)).reshape(-1)))
    if count > len(classes):
        raise InputError(f"{path}: labels run to {count - 1}, classes has {len(classes)} names; expected one per class")
    if len(set(classes)) != len(classes):
        raise InputError(f"{path}: classes names a class twice: {', '.join(classes)}")
    return classes
