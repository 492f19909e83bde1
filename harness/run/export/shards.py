"""The files of an export: shards of images as npz or zipped PNG, written whole, and found again by a second run."""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.base.errors import OutputError
from harness.base.files import write_atomically
from harness.data.exported import NAME, UINT8, as_stored, names_of
from harness.data.image_files import as_png

if TYPE_CHECKING:
    from pathlib import Path

SHARD_BYTES = 64 << 20
"""Bytes of pixels in a shard."""
ROW_BYTES = {"npz": 4 * 64 + 8 + 4, "png": 400}
"""Bytes that an image takes besides its pixels: its name and place, and of a PNG its own head."""
SUFFIXES = {"npz": ".npz", "png": ".zip"}
_ROWS = "rows.csv"


@dataclass(frozen=True, eq=False)
class Shard:
    """Images of an export: `names` (N,), `pixels` as stored, `index` in the split (N,), `perturbation` (N,) int32."""

    names: np.ndarray
    pixels: np.ndarray
    index: np.ndarray
    perturbation: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def new_to(self, seen: set[bytes]) -> Shard:
        """Return the images that are not among those seen, each once."""
        first = np.zeros(len(self), dtype=bool)
        here: set[bytes] = set()
        for row, name in enumerate(self.names.tolist()):
            first[row] = name not in seen and name not in here
            here.add(name)
        return Shard(self.names[first], self.pixels[first], self.index[first], self.perturbation[first])


class Format(Protocol):
    """A way to store a shard."""

    def write(self, shard: Shard) -> bytes:
        """Return the content of a file with the shard."""

    def names(self, path: Path) -> np.ndarray:
        """Return the names of the images in a file; raises for one whose pixels do not bear them."""


class _Npz:
    def write(self, shard: Shard) -> bytes:
        content = io.BytesIO()
        np.savez(
            content,
            image=shard.names.astype(str),  # In a table, bytes would become b'…'.
            pixels=shard.pixels,
            index=shard.index,
            perturbation=shard.perturbation,
        )
        return content.getvalue()

    def names(self, path: Path) -> np.ndarray:
        with np.load(path, allow_pickle=False) as file:
            names, pixels = file["image"].astype(NAME), file["pixels"]
        return _expect_own(names, pixels)


class _Png:
    def write(self, shard: Shard) -> bytes:
        content, rows = io.BytesIO(), io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        table.writerow(("image", "index", "perturbation"))
        with zipfile.ZipFile(content, "w") as archive:
            for name, pixels, *row in zip(shard.names, shard.pixels, shard.index, shard.perturbation, strict=True):
                table.writerow((name.decode(), *row))
                archive.writestr(_entry(f"{name.decode()}.png"), as_png(pixels.transpose(2, 0, 1), compress_level=1))
            archive.writestr(_entry(_ROWS), rows.getvalue())
        return content.getvalue()

    def names(self, path: Path) -> np.ndarray:
        from PIL import Image

        found = []
        with zipfile.ZipFile(path) as archive:
            listed = archive.read(_ROWS).decode().splitlines()[1:]
            for line in listed:
                name = line.split(",")[0]
                with archive.open(f"{name}.png") as file, Image.open(file, formats=["png"]) as picture:
                    pixels = np.array(picture)
                found.append(_expect_own(np.array([name], dtype=NAME), pixels[None])[0])
        return np.array(found, dtype=NAME)


FILES: dict[str, Format] = {"npz": _Npz(), "png": _Png()}
"""The formats of shards, by name."""


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an entry without a date: equal images make equal files."""
    return zipfile.ZipInfo(name)


def _expect_own(names: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    if not np.array_equal(names_of(pixels), names):
        raise ValueError("its pixels are others than its names say")
    return names


def shard_of(pixels: np.ndarray, index: np.ndarray, perturbation: int, *, stored: str) -> Shard:
    """Return images, (N, C, H, W) float32 in [0, 1], as a shard."""
    kept = as_stored(pixels, stored)
    if stored == UINT8 and kept.shape[-1] not in {1, 3}:
        raise OutputError(f"PNG holds images of 1 or 3 channels, these have {kept.shape[-1]}; export with --format npz")
    return Shard(names_of(kept), kept, index, np.full(len(kept), perturbation, dtype=np.int32))


def joined(shards: list[Shard]) -> Shard:
    """Return shards as one."""
    return Shard(
        *(
            np.concatenate([getattr(each, name) for each in shards])
            for name in ("names", "pixels", "index", "perturbation")
        )
    )


def found_shard(path: Path, form: Format) -> np.ndarray | None:
    """Return the names in a shard of an earlier run; None for a shard that is missing or damaged."""
    try:
        return form.names(path)
    except Exception:  # A damaged archive fails in any way; it is written again.
        return None


def write_shard(path: Path, shard: Shard, form: Format) -> None:
    """Write a shard, whole or not at all."""
    write_atomically(path, form.write(shard))
