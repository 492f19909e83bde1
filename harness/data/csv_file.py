"""Images that a csv file lists: a path and a label in each row."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.base.files import read_regular
from harness.data.decoding import decoded
from harness.data.image_files import read_picture
from harness.data.pictures import Pictures, classes_of, files_as_they_are

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

MAX_BYTES = 256 << 20
_EXPECTED = "expected a first row that names the columns path and label, and a row for each image"


def load_csv(path: Path, pipeline: Pipeline) -> LabelledImages:
    """Load the images that a csv file lists in its columns `path`, relative to the file, and `label`.

    Labels are names of classes, which are then in the order of the alphabet, or integers from 0. Further columns that
    have a value in each row are groups of images. Raises `InputError` for anything else.
    """
    try:
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None
    if not rows or not {"path", "label"} <= set(rows[0]):
        raise InputError(f"{path}: has {', '.join(map(str, rows[0])) if rows else 'no rows'}; {_EXPECTED}")
    for number, row in enumerate(rows, start=2):
        if not (row["path"] and row["label"]):
            raise InputError(f"{path}: row {number} has no path or no label; {_EXPECTED}")
    files = [path.parent / row["path"] for row in rows]
    given = [row["label"].strip() for row in rows]
    numbers = all(label.isdecimal() and len(label) <= 9 for label in given)  # noqa: PLR2004  Digits of 32 bits.
    labels, classes = classes_of([int(label) for label in given] if numbers else given, None, where=str(path))
    try:
        made_of, stored = files_as_they_are([path, *files])
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: lists a file that cannot be found ({error}); paths are relative to it") from None
    images = decoded(
        Pictures(
            read=lambda position: read_picture(files[position]),
            labels=labels,
            classes=classes,
            name=path.stem,
            where=lambda position: str(files[position]),
            made_of=made_of,
            stored=stored,
            whole=str(path),
            file=files.__getitem__,
        ),
        pipeline,
    )
    # A column with a value for each image says of which group it is.
    columns = {
        name: [(row[name] or "").strip() for row in rows] for name in rows[0] if name and name not in {"path", "label"}
    }
    return replace(images, groups={name: np.array(values) for name, values in columns.items() if all(values)})
