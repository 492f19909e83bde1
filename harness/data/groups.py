"""Groups of images besides their classes, such as camera, site and batch: read, validated and hashed."""

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
    "expected a first row with the column path and others such as camera, and a row for each image, its path relative "
    "to the file"
)


def groups_sha256(groups: Groups) -> str:
    """Return a SHA-256 over the groups of all images; the order of the columns does not matter."""
    content = {name: values.tolist() for name, values in groups.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def groups_in_words(groups: Groups) -> str:
    """Return the columns, each with its groups, the largest first: `camera (front 120, rear 80)`."""
    return "; ".join(
        f"{name} ({some_of([f'{group} {count}' for group, count in Counter(values.tolist()).most_common()])})"
        for name, values in groups.items()
    )


def groups_of_array(array: np.ndarray, count: int, *, where: str) -> dict[str, np.ndarray]:
    """Return the groups of `count` images in an array: (N,) text or integers, or structured with a field per column.

    An array without fields is the column `group`. Raises `InputError` for another length or type.
    """
    expected = (
        f"expected text or integers, ({count},), one for each image, or a structured array of these"
    )
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array  # noqa: PLR2004  (N, 1), as in MedMNIST.
    if array.shape != (count,):
        raise DataError(f"{where}: groups are of shape {array.shape}; {expected}")
    found = (
        {name: array[name] for name in array.dtype.names} if array.dtype.names else {"group": array}
    )
    for name, values in found.items():
        if values.dtype.kind not in "iubUS" or values.shape != (count,):
            raise DataError(
                f"{where}: groups by {name!r} are {values.dtype} of shape {values.shape}; {expected}"
            )
        try:
            found[name] = (
                np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)
            )
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where}: groups by {name!r} are no UTF-8 ({error}); {expected}"
            ) from None
        if empty := np.flatnonzero(np.char.str_len(found[name]) == 0).tolist():
            lacking = (
                f"{len(empty)} images have no group by {name!r}: {some_of([*map(str, empty)])}"
            )
            raise DataError(f"{where}: {lacking}; name one for each")
    return found


def groups_beside(folder: Path, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the groups of a folder's images by column, from a `groups.csv` in it or else beside it.

    Empty without a file. A file beside the folder may have rows for images in other folders. Raises `InputError`, which
    names the rows or images, for an unreadable file and for rows of another length or without a value. Also for paths
    that name no image or one twice, and for images without a row.
    """
    path = folder / NAME
    inside = path.exists()
    if not inside and not (path := folder.absolute().parent / NAME).exists():
        return {}
    titles, *rows = csv_rows(path, expected=_EXPECTED) or [[]]
    if "path" not in titles or len(titles) < 2 or not all(titles):  # noqa: PLR2004  The path and one more.
        raise DataError(f"{path}: has {', '.join(map(repr, titles)) or 'no rows'}; {_EXPECTED}")
    if len(set(titles)) < len(titles):
        raise DataError(
            f"{path}: has two columns {Counter(titles).most_common(1)[0][0]!r}; {_EXPECTED}"
        )
    # Links are not resolved, so each is a picture of its own.
    own, places = f"{os.path.abspath(folder)}{os.sep}", [os.path.abspath(file) for file in files]  # noqa: PTH100
    wanted, found, unknown = set(places), dict[str, dict[str, str]](), []
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(titles):
            raise DataError(
                f"{path}: row {number} has {len(row)} values, its columns are {', '.join(titles)}"
            )
        named = dict(zip(titles, row, strict=True))
        place, said = os.path.abspath(path.parent / named["path"]), f"{path}: row {number}"  # noqa: PTH100
        if place in found:
            raise DataError(
                f"{said}: {named['path']!r} has a row already; keep one row for each image"
            )
        if place in wanted and (lacking := [title for title, value in named.items() if not value]):
            raise DataError(
                f"{said} ({named['path']!r}) has no {lacking[0]}; name a group, such as unknown"
            )
        if place in wanted:
            found[place] = named
        elif inside or place.startswith(own):
            unknown.append(f"row {number} {named['path']!r}")
    missing = [str(file) for file, place in zip(files, places, strict=True) if place not in found]
    if unknown:
        hint = f"paths are relative to {path.parent} and include the suffix"
        raise DataError(
            f"{path}: {len(unknown)} rows name no image of the data: {some_of(unknown)}; {hint}"
        )
    if missing:
        count = f"{len(missing)} of {len(files)} images have no row"
        raise DataError(f"{path}: {count}: {some_of(missing)}; add a row for each")
    return {
        name: np.array([found[place][name] for place in places])
        for name in titles
        if name != "path"
    }


def csv_rows(path: Path, *, expected: str) -> list[list[str]]:
    """Return the rows of a CSV file, cells without spaces at their ends; raises `InputError` for another file."""
    with readable(path, expected):
        lines = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig").splitlines()
        return [[cell.strip() for cell in row] for row in csv.reader(lines, strict=True)]
