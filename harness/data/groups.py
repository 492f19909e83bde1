"""Groups of images besides their classes, such as camera and site: read, validated and hashed."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import DataError, some_of
from harness.base.files import read_regular
from harness.data.pictures import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Groups = Mapping[str, np.ndarray]

NAME = "groups.csv"
"""Name of the file of groups, in a folder of images or beside it."""
MAX_BYTES = 256 << 20
_EXPECTED = (
    "expected a first row with the column path and others such as camera, and a row for each "
    "image, its path relative to the file"
)


def groups_sha256(groups: Groups) -> str:
    """Return a SHA-256 over the groups of all images; the order of the columns does not matter."""
    content = {name: values.tolist() for name, values in groups.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def groups_in_words(groups: Groups) -> str:
    """Return the columns with their groups, the largest first: `camera (front 120, rear 80)`."""
    columns = []
    for name, values in groups.items():
        counts = Counter(values.tolist()).most_common()
        sizes = [f"{group} {count}" for group, count in counts]
        columns.append(f"{name} ({some_of(sizes)})")
    return "; ".join(columns)


def groups_of_array(array: np.ndarray, count: int, *, where: str) -> dict[str, np.ndarray]:
    """Return the groups of images in an array, as text by column.

    Args:
        array: (N,) or (N, 1) text or integers, which are the column `group`, or a structured array
            with a field per column.
        count: The number of images, N.
        where: The name of the array in messages.

    Raises:
        InputError: The array has another length or type, or an image has an empty group.
    """
    expected = (
        f"expected text or integers, ({count},), one for each image, or a structured array of these"
    )
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004  (N, 1), as in MedMNIST.
        array = array[:, 0]
    if array.shape != (count,):
        raise DataError(f"{where}: groups are of shape {array.shape}; {expected}")

    columns = {"group": array}
    if array.dtype.names:
        columns = {name: array[name] for name in array.dtype.names}
    groups = {}
    for name, values in columns.items():
        if values.dtype.kind not in "iubUS" or values.shape != (count,):
            raise DataError(
                f"{where}: groups by {name!r} are {values.dtype} of shape {values.shape}; "
                f"{expected}"
            )
        try:
            groups[name] = _as_text(values)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: groups by {name!r} are no UTF-8 ({error}); {expected}"
            ) from None
        empty = np.flatnonzero(np.char.str_len(groups[name]) == 0).tolist()
        if empty:
            positions = some_of([str(position) for position in empty])
            raise DataError(
                f"{where}: {len(empty)} images have no group by {name!r}: {positions}; "
                "name one for each"
            )
    return groups


def _as_text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.asarray(np.char.decode(values, "utf-8"))
    return values.astype(str)


def groups_beside(folder: Path, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the groups of a folder's images by column, from a `groups.csv` in it or beside it.

    A file beside the folder may have rows for images in other folders.

    Args:
        folder: The folder of the images.
        files: The images.

    Returns:
        The group of each image as text, (N,), by column; empty without a `groups.csv`.

    Raises:
        InputError: The file is unreadable, a row has another length or no value, a path names no
            image or one twice, or an image has no row.
    """
    path = folder / NAME
    inside = path.exists()
    if not inside:
        path = folder.absolute().parent / NAME
    if not path.exists():
        return {}

    titles, rows = _titles_and_rows(path)
    # Links are not resolved, so each is a picture of its own.
    places = [os.path.abspath(file) for file in files]  # noqa: PTH100
    rows_by_place, other_places = _rows_by_place(path, titles, rows, set(places))

    own_folder = f"{os.path.abspath(folder)}{os.sep}"  # noqa: PTH100
    unknown_rows = [row for place, row in other_places if inside or place.startswith(own_folder)]
    if unknown_rows:
        raise DataError(
            f"{path}: {len(unknown_rows)} rows name no image of the data: "
            f"{some_of(unknown_rows)}; paths are relative to {path.parent} and include the suffix"
        )
    named_places = zip(files, places, strict=True)
    missing = [str(file) for file, place in named_places if place not in rows_by_place]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(files)} images have no row: {some_of(missing)}; "
            "add a row for each"
        )
    groups = {}
    for title in titles:
        if title != "path":
            groups[title] = np.array([rows_by_place[place][title] for place in places])
    return groups


def _titles_and_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the titles of the columns of a file of groups, and its rows; raises `InputError`."""
    titles, *rows = csv_rows(path, expected=_EXPECTED) or [[]]
    if "path" not in titles or len(titles) < 2 or not all(titles):  # noqa: PLR2004  The path and one more.
        columns = ", ".join(repr(title) for title in titles) or "no rows"
        raise DataError(f"{path}: has {columns}; {_EXPECTED}")
    if len(set(titles)) < len(titles):
        repeated = Counter(titles).most_common(1)[0][0]
        raise DataError(f"{path}: has two columns {repeated!r}; {_EXPECTED}")
    return titles, rows


def _rows_by_place(
    path: Path, titles: list[str], rows: list[list[str]], image_places: set[str]
) -> tuple[dict[str, dict[str, str]], list[tuple[str, str]]]:
    """Return the rows of images by absolute path, and the paths of other rows with their names.

    Raises `InputError` for a row of another length or without a value, and for a second row of an
    image.
    """
    rows_by_place: dict[str, dict[str, str]] = {}
    other_places = []
    for number, values in enumerate(rows, start=2):
        if not any(values):
            continue
        if len(values) != len(titles):
            raise DataError(
                f"{path}: row {number} has {len(values)} values, "
                f"its columns are {', '.join(titles)}"
            )
        row = dict(zip(titles, values, strict=True))
        place = os.path.abspath(path.parent / row["path"])  # noqa: PTH100
        if place in rows_by_place:
            raise DataError(
                f"{path}: row {number}: {row['path']!r} has a row already; "
                "keep one row for each image"
            )
        if place not in image_places:
            other_places.append((place, f"row {number} {row['path']!r}"))
            continue
        empty = [title for title, value in row.items() if not value]
        if empty:
            raise DataError(
                f"{path}: row {number} ({row['path']!r}) has no {empty[0]}; "
                "name a group, such as unknown"
            )
        rows_by_place[place] = row
    return rows_by_place, other_places


def csv_rows(path: Path, *, expected: str) -> list[list[str]]:
    """Return the rows of a CSV file, cells without spaces at their ends.

    Raises `InputError` for a file that is no CSV file in UTF-8; `expected` ends the message.
    """
    with readable(path, expected):
        text = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig")
        rows = csv.reader(text.splitlines(), strict=True)
        return [_stripped(row) for row in rows]


def _stripped(row: list[str]) -> list[str]:
    return [cell.strip() for cell in row]
