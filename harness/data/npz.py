"""Images in an npz file of NumPy arrays; MedMNIST's files as they are."""

from __future__ import annotations

import math
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from harness.data.budget import expect_proportion
from harness.data.decoding import decoded
from harness.data.images import LabelledImages
from harness.data.pictures import MAX_CLASSES, Pictures, files_as_they_are
from harness.data.rows import COPIED
from harness.errors import InputError
from harness.store.files import require_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.data.pipeline import Pipeline


def load_npz(path: Path, pipeline: Pipeline, *, split: str = "test") -> LabelledImages:
    """Load an npz file with `images`, (N, H, W) or (N, H, W, C) uint8, C 1 or 3, and `labels`, (N,) integers from 0.

    Optional are `masks`, (N, H, W) bool or uint8, zero where the object is not, and `classes`, their names; without
    these they are numbers. Where a file has several splits, as MedMNIST's have (Yang et al. 2023), the names begin with
    the split's, `test_images`, and labels may be (N, 1). Images are made by the pipeline, masks follow them. Raises
    `InputError` for anything else.
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
    masks = None if masks is None else masks != 0
    classes = _classes(arrays, labels, path)
    if pipeline.changes_nothing and pixels.nbytes <= COPIED:
        import torch

        return LabelledImages(
            pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            labels=torch.from_numpy(labels),
            classes=classes,
            name=path.stem,
            split=split,
            masks=None if masks is None else torch.from_numpy(masks),
        )
    made_of, _ = files_as_they_are([path])
    return decoded(
        Pictures(
            read=pixels.__getitem__,
            labels=labels,
            classes=classes,
            name=path.stem,
            split=split,
            where=lambda position: f"{path}: image {position}",
            made_of=f"{made_of} {split}",
            masks=masks,
            whole=str(path),
        ),
        pipeline,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays, none of which is larger than the file says and has room for."""
    expected = "expected an npz file of plain arrays, as np.savez writes"
    try:
        require_regular(path)
        with path.open("rb") as file:
            if file.peek(len(npy.MAGIC_PREFIX)).startswith(npy.MAGIC_PREFIX):
                raise InputError(f"{path}: holds a single array of shape {_header(file)[0]}; {expected}")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                needed = sum(member.file_size for member in members)
                expect_proportion(path, needed=needed, stored=path.stat().st_size)
                return {
                    member.filename.removesuffix(".npy"): _array(archive, member)
                    for member in members
                    if member.filename.endswith(".npy")
                }
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); {expected}") from None
    except Exception as error:  # A damaged archive makes what decodes it fail in any way.
        raise InputError(f"{path}: cannot be read ({error!r}); {expected}") from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Return a member of the archive; raises `ValueError` for one that announces more than follows."""
    with archive.open(member) as file:
        shape, dtype = _header(file)
        announced, follow = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if dtype.hasobject or min(shape, default=0) < 0 or announced != follow:
            raise ValueError(f"{member.filename} announces {dtype} of shape {shape} where {follow} bytes follow")
    with archive.open(member) as file:
        return np.asarray(npy.read_array(file, allow_pickle=False))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array that follows."""
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


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
    if labels.max() >= MAX_CLASSES:
        raise InputError(f"{path}: labels run to {labels.max()}, {expected}, below {MAX_CLASSES}")
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
