"""The files of an export: shards of images as npz or zipped PNG, which a second run finds again."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.data.exported import NAME, names_of
from harness.data.image_files import as_png

if TYPE_CHECKING:
    from pathlib import Path

SHARD_BYTES = 64 << 20
"""Bytes of pixels in a shard."""
ROW_BYTES = {"npz": 4 * 64 + 8 + 4, "png": 400}
"""Bytes that an image takes besides its pixels: its name and place, and of a PNG its own head."""
SUFFIXES = {"npz": ".npz", "png": ".zip"}
_ROWS = "rows.csv"


class Shard(NamedTuple):
    """Images of an export: `names` (N,), `pixels` as stored, `index` in the split (N,), `perturbation` (N,) int32."""

    names: np.ndarray
    pixels: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # Of tuples, a method that nobody calls here.
    perturbation: np.ndarray

    def content(self, form: str) -> bytes:
        """Return the content of a file with the shard; equal images make equal files."""
        content = io.BytesIO()
        if form == "npz":
            names = self.names.astype(str)  # In a table, bytes would become b'…'.
            np.savez(content, image=names, pixels=self.pixels, index=self.index, perturbation=self.perturbation)
            return content.getvalue()
        table = csv.writer(rows := io.StringIO(), lineterminator="\n")
        table.writerow(("image", "index", "perturbation"))
        with zipfile.ZipFile(content, "w") as archive:
            for name, pixels, *row in zip(*self, strict=True):
                table.writerow((name.decode(), *row))
                entry = zipfile.ZipInfo(f"{name.decode()}.png")  # Without a date.
                archive.writestr(entry, as_png(pixels.transpose(2, 0, 1), compress_level=1))
            archive.writestr(zipfile.ZipInfo(_ROWS), rows.getvalue())
        return content.getvalue()


def names_in(path: Path, form: str) -> np.ndarray | None:
    """Return the names of the images in a shard of an earlier run; None for one that is missing or damaged."""
    try:
        if form == "npz":
            with np.load(path, allow_pickle=False) as file:
                names, pixels = file["image"].astype(NAME), file["pixels"]
            return names if np.array_equal(names_of(pixels), names) else None
        from PIL import Image

        with zipfile.ZipFile(path) as archive:
            listed = [line.split(",")[0] for line in archive.read(_ROWS).decode().splitlines()[1:]]
            for name in listed:
                with archive.open(f"{name}.png") as file, Image.open(file, formats=["png"]) as picture:
                    if names_of(np.array(picture)[None])[0] != name.encode():
                        return None
        return np.array(listed, dtype=NAME)
    except Exception:  # A damaged archive fails in any way; it is written again.
        return None
