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
    expected = f"expected text or integers, ({count},), one for each image, or a structured array of these"
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array  # noqa: PLR2004  (N, 1), as in MedMNIST.
    if array.shape != (count,):
        raise DataError(f"{where}: groups are of shape {array.shape}; {expected}")
    columns = {name: array[name] for name in array.dtype.names} if array.dtype.names else {"group": array}
    found = {}
    for name, values in columns.items():
        if values.dtype.kind not in "iubUS" or values.shape != (count,):
            raise DataError(f"{where}: groups by {name!r} are {values.dtype} of shape {values.shape}; {expected}")
        try:
            texts = np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values.astype(str)
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: groups by {name!r} are no UTF-8 ({error}); {expected}") from None
        if empty := np.flatnonzero(np.char.str_len(texts) == 0).tolist():
            raise DataError(
                f"{where}: {len(empty)} images have no group by {name!r}: {some_of(list(map(str, empty)))}; name one"
                " for each"
            )
        found[name] = texts
    return found


def groups_beside(folder: Path, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the groups of a folder's images, from a `groups.csv` in it or else beside it; empty without a file.

    Raises `InputError` as `read_groups` does. A file beside the folder may have rows for images in other folders.
    """
    if (inside := folder / NAME).exists():
        return read_groups(inside, files)
    beside = folder.absolute().parent / NAME
    return read_groups(beside, files, of=folder) if beside.exists() else {}


def read_groups(path: Path, files: Sequence[Path], *, of: Path | None = None) -> dict[str, np.ndarray]:
    """Return the groups that a CSV file gives these images, in their order, by column.

    With a folder `of`, rows with a path outside it are for other data. Raises `InputError`, which names the rows or
    images, for an unreadable file and for rows of another length or without a value. Also for paths that name no image
    or one twice, and for images without a row.
    """
    titles, *rows = csv_rows(path, expected=_EXPECTED) or [[]]
    if "path" not in titles or len(titles) < 2 or not all(titles):  # noqa: PLR2004  The path and one more.
        raise DataError(f"{path}: has {', '.join(map(repr, titles)) or 'no rows'}; {_EXPECTED}")
    if twice := [title for title, count in Counter(titles).items() if count > 1]:
        raise DataError(f"{path}: has two columns {twice[0]!r}; {_EXPECTED}")
    places = [_place(file) for file in files]
    wanted, found, unknown = set(places), dict[str, dict[str, str]](), []
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(titles):
            raise DataError(f"{path}: row {number} has {len(row)} values, its columns are {', '.join(titles)}")
        named = dict(zip(titles, row, strict=True))
        place = _place(path.parent / named["path"])
        if place not in wanted:
            if of is None or place.startswith(_place(of) + os.sep):
                unknown.append(f"row {number} {named['path']!r}")
            continue
        if place in found:
            raise DataError(f"{path}: row {number}: {named['path']!r} has a row already; keep one row for each image")
        if lacking := [title for title, value in named.items() if not value]:
            of_row = f"row {number} ({named['path']!r})"
            raise DataError(f"{path}: {of_row} has no {lacking[0]}; name a group, such as unknown")
        found[place] = named
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} rows name no image of the data: {some_of(unknown)}; paths are relative to "
            f"{path.parent} and include the suffix"
        )
    if missing := [str(file) for file, place in zip(files, places, strict=True) if place not in found]:
        raise DataError(
            f"{path}: {len(missing)} of {len(files)} images have no row: {some_of(missing)}; add a row for each"
        )
    return {name: np.array([found[place][name] for place in places]) for name in titles if name != "path"}


def csv_rows(path: Path, *, expected: str) -> list[list[str]]:
    """Return the rows of a CSV file, cells without spaces at their ends; raises `InputError` for another file."""
    try:
        lines = read_regular(path, max_bytes=MAX_BYTES).decode("utf-8-sig").splitlines()
        return [[cell.strip() for cell in row] for row in csv.reader(lines, strict=True)]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); {expected}") from None


def _place(path: Path) -> str:
    """Return an absolute path that identifies a file; links are not resolved, so each is a picture of its own."""
    return os.path.abspath(path)  # noqa: PTH100
