"""Results of each image as one table, CSV or Parquet.

The identifier of an image is the same in any order of the images.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import OutputError, PackageError
from harness.base.outputs import OutputKind, table_kind
from harness.data.rows import parts_of
from harness.report.exports import csv_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.inference import Predictions

_FIRST = "id,image,degrees"
KINDS = {
    ".csv": table_kind("a table of images", _FIRST),
    ".parquet": OutputKind("a table of images", rb"PAR1"),
}


def kind_of(path: Path) -> OutputKind:
    """Return the kind of the file at this path.

    Raises:
        InputError: For another suffix, and without pyarrow.
    """
    if (kind := KINDS.get(path.suffix.lower())) is None:
        raise OutputError(f"{path}: expected a name that ends in {' or '.join(KINDS)}")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise PackageError(
                f"{path}: needs pyarrow; pip install 'stress-harness[hf]', or name a .csv"
            ) from None
    return kind


def per_image(views: Sequence[Predictions], path: Path) -> bytes:
    """Return a table with a row for each image in each view, for a file of this name.

    A view is a pose. `id` is the SHA-256 of the image's pixels, (C, H, W) uint8, and `image` its
    number in the split. Probabilities are empty where the model gives none.
    """
    images = views[0].images
    ids = [
        hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
        for part in parts_of(len(images), int(np.prod(images.pixels.shape[1:])))
        for pixels in images.pixels[part].numpy()
    ]
    classes, at = np.array(images.classes), np.arange(len(images))
    columns: dict[str, list[Any]] = {}
    for view in views:
        shares = view.probabilities if view.known is None else None
        each: dict[str, Any] = {
            "id": ids,
            "image": images.positions.numpy(),
            **{
                name: np.full(len(images), getattr(view.perturbation, name))
                for name in ("degrees", "dx", "dy")
            },
            "label": classes[view.labels],
            "predicted": classes[view.predicted],
            "correct": view.correct,
            "confidence": None if not view.has_confidence else view.confidence,
            "probability_of_label": None if shares is None else shares[at, view.labels],
            **{f"group {name}": values for name, values in images.groups.items()},
        }
        for name, values in each.items():
            columns.setdefault(name, []).extend(
                [None] * len(images) if values is None else np.asarray(values).tolist()
            )
    if path.suffix.lower() == ".csv":
        return csv_text([*columns], zip(*columns.values(), strict=True)).encode()
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), file := io.BytesIO())
    return file.getvalue()
