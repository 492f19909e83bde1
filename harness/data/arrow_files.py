"""Images in Parquet files and in data sets on disk of Hugging Face's `datasets`.

Both are read as Arrow tables with columns of pictures and labels, without `datasets`. The harness
decodes the pictures, and no code of a data set runs.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import DataError, PackageError
from harness.base.files import require_regular
from harness.data.pictures import (
    LABEL_KEYS,
    PICTURE_KEYS,
    EncodedPicture,
    MadeRows,
    Pictures,
    readable,
)
from harness.data.remote import RemoteFile, found_once, is_url, remote_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.data.pictures import File

_EXPECTED = (
    "expected Parquet files, or a folder that datasets.save_to_disk wrote, with a column of "
    f"pictures, {' or '.join(PICTURE_KEYS)}, and one of labels, {' or '.join(LABEL_KEYS)}"
)


def read_arrow(place: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures of Parquet files, or of a data set on disk. Needs pyarrow.

    Each picture is the content of a picture file, or its path relative to the data, which must then
    be local. The features that `datasets` stores name the classes. Local files have groups: each
    further column of text or whole numbers that has a value in each row.

    Args:
        place: A Parquet file, a folder of them, or a folder that `datasets.Dataset.save_to_disk`
            wrote. Parquet files may be at the URL of a file or folder, or at one with a `*`.
        labeled: Read the column of labels; if not, it is optional.

    Raises:
        InputError: The place has anything else, or pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise PackageError(
            f"{place}: reading it needs pyarrow, which is not installed: "
            "pip install 'stress-harness[hf]'"
        ) from None
    path = Path(place)
    remote = is_url(place)
    files: list[File] = []
    if remote:
        files += remote_files(place, suffix=".parquet")
    else:
        files += _files(path)

    class_names = None
    groups: dict[str, np.ndarray] = {}
    with readable(place, _EXPECTED):  # pyarrow may raise any exception for a damaged file.
        tables = [_ArrowTable(file) for file in files]
        features = _features(path, tables[0])
        columns = tables[0].schema.names
        picture = _first_in(columns, PICTURE_KEYS)
        label = _first_in(columns, LABEL_KEYS)
        if not picture or (labeled and not label):
            raise DataError(f"{place}: has the columns {', '.join(columns) or 'none'}; {_EXPECTED}")
        if labeled:
            labels = _values(tables, label)
            class_names = _names_in(features, label)
        else:
            labels = [0] * sum(table.row_count for table in tables)
        if not remote:
            for name in columns:
                if name not in {picture, label}:
                    groups |= _groups_by(name, tables, _names_in(features, name))

    cells = _Cells(place, tables, picture)
    return Pictures.of_files(
        files,
        MadeRows(cells.cell, len(labels)),
        labels=labels,
        names=class_names,
        name=_name_of(place),
        whole=place,
        threads=False,
        groups=groups,
    )


def _first_in(columns: list[str], names: tuple[str, ...]) -> str:
    """Return the first of these names that is a column, empty without one."""
    return next((name for name in names if name in columns), "")


def _names_in(features: Mapping[str, Any], column: str) -> Any:
    """Return the names of the classes of a column; None if the features have none."""
    feature = features.get(column) or {}
    return feature.get("names")


def _values(tables: list[_ArrowTable], column: str) -> list[Any]:
    values = []
    for table in tables:
        values += table.values(column)
    return values


def _groups_by(name: str, tables: list[_ArrowTable], class_names: Any) -> dict[str, np.ndarray]:
    """Return the groups by a column; empty unless it has text or whole numbers in each row."""
    if not all(table.is_plain(name) for table in tables):
        return {}
    values = _values(tables, name)
    if any(value is None or value == "" for value in values):
        return {}
    if class_names:
        values = [class_names[value] for value in values]
    return {name: np.array([str(value) for value in values])}


def _name_of(place: str) -> str:
    """Return the name of a data set: that of its file or folder."""
    if not is_url(place):
        return Path(place).resolve().stem
    _, _, address = place.partition("?")[0].partition("://")
    parts = [part for part in address.split("/") if part and "*" not in part]
    if not parts:
        return "parquet"
    return Path(parts[-1]).stem


def _files(path: Path) -> list[Path]:
    """Return the files that hold the rows, in order."""
    if path.is_file():
        return [path]
    state = path / "state.json"
    if (path / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in path.iterdir() if (child / state.name).is_file())
        raise DataError(
            f"{path}: has the splits {', '.join(splits)}; name one, such as hf:{path / splits[-1]}"
        )
    if state.is_file():
        with readable(state, _EXPECTED):
            entries = json.loads(state.read_text("utf-8"))["_data_files"]
            return [path / entry["filename"] for entry in entries]
    files = []
    if path.is_dir():
        files = sorted(path.glob("*.parquet"))
    if not files:
        raise DataError(f"{path}: has no Parquet file; {_EXPECTED}")
    return files


@dataclass(frozen=True, eq=False)
class _ArrowTable:
    """The rows of one file, which is opened at the first use, and again in another process."""

    file: File

    def __reduce__(self) -> tuple[Any, ...]:
        return _ArrowTable, (self.file,)

    @cached_property
    def opened(self) -> Any:
        """Return the table of an Arrow file, which stays on disk, or the open Parquet file."""
        import pyarrow as pa
        from pyarrow import parquet

        if isinstance(self.file, RemoteFile):
            return parquet.ParquetFile(self.file.opened(blocks=False))
        require_regular(self.file)
        if self.file.suffix != ".arrow":
            return parquet.ParquetFile(self.file, memory_map=True)
        with pa.memory_map(str(self.file)) as source:
            return pa.ipc.open_stream(source).read_all()

    @property
    def schema(self) -> Any:
        """Return the names and types of the columns."""
        return getattr(self.opened, "schema_arrow", None) or self.opened.schema

    @cached_property
    def parts(self) -> list[tuple[int, Callable[[str], Any]]]:
        """Return the parts that are read at once: each row group, or all rows.

        Each has its number of rows, and a function that reads a column of it.
        """
        opened = self.opened
        if not hasattr(opened, "read_row_group"):
            return [(opened.num_rows, opened.column)]

        def column(number: int, name: str) -> Any:
            return opened.read_row_group(number, columns=[name]).column(name)

        parts: list[tuple[int, Callable[[str], Any]]] = []
        for number in range(opened.metadata.num_row_groups):
            row_count = opened.metadata.row_group(number).num_rows
            parts.append((row_count, partial(column, number)))
        return parts

    @property
    def row_count(self) -> int:
        """Return the number of rows."""
        return sum(count for count, _ in self.parts)

    def is_plain(self, name: str) -> bool:
        """Return whether there is a column of text or whole numbers."""
        from pyarrow import types

        if name not in self.schema.names:
            return False
        kind = self.schema.field(name).type
        if types.is_dictionary(kind):
            kind = kind.value_type
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))

    def values(self, name: str) -> list[Any]:
        """Return the values of a column as Python objects."""

        def find(_: File) -> dict[str, Any]:
            values = []
            for _count, column in self.parts:
                values += column(name).to_pylist()
            return {"labels": values}

        return list(found_once(self.file, f"labels {name}", find)["labels"])


class _Cells:
    """The cells of pictures in tables, by their position in all rows."""

    def __init__(self, place: str, tables: list[_ArrowTable], column: str) -> None:
        self.place = place
        self.column = column
        self.folder = _folder_of(place)
        self.parts: list[tuple[_ArrowTable, int]] = []
        for table in tables:
            self.parts += [(table, number) for number in range(len(table.parts))]
        row_counts = [table.parts[number][0] for table, number in self.parts]
        self.ends = list(accumulate(row_counts))
        # Rows with paths keep their pictures in other files, which are not listed here.
        self.inside = False
        if any(table.row_count for table in tables):
            self.inside = isinstance(self._cell(0).value, bytes)

    def cell(self, position: int) -> _Cell:
        """Return the cell at a position."""
        cell = self._cell(position)
        if not self.inside:
            return cell
        return replace(cell, file=cell.table.file)

    def _cell(self, position: int) -> _Cell:
        part = bisect_right(self.ends, position)
        table, number = self.parts[part]
        count = table.parts[number][0]
        return _Cell(
            table=table,
            number=number,
            row=position - self.ends[part] + count,
            column=self.column,
            where=f"{self.place}: row {position}",
            folder=self.folder,
        )


def _folder_of(place: str) -> Path | None:
    """Return the folder that paths of pictures are relative to; None for data at a URL."""
    if is_url(place):
        return None
    path = Path(place)
    if path.is_dir():
        return path
    return path.parent


@lru_cache(maxsize=1)
def _held(table: _ArrowTable, number: int, name: str) -> Any:
    """Return a column of pictures, the only one that stays in memory."""
    return table.parts[number][1](name)


@dataclass(frozen=True, eq=False)
class _Cell:
    """The picture in a row of a row group: the bytes of a file, or its path.

    A path is relative to a local folder.
    """

    table: _ArrowTable
    number: int
    row: int
    column: str
    where: str
    folder: Path | None
    file: File | None = None

    def __str__(self) -> str:
        return self.where

    @property
    def value(self) -> Any:
        with readable(self, "replace or remove it"):
            value = _held(self.table, self.number, self.column)[self.row].as_py()
            if self.row == self.table.parts[self.number][0] - 1:
                _held.cache_clear()  # Rows come in order, so a group is let go after its last one.
            if isinstance(value, dict):
                return value.get("bytes") or value.get("path")
            return value

    def picture(self) -> bytes:
        value = self.value
        if isinstance(value, str) and self.folder is not None:
            return EncodedPicture(self.folder / value).picture()
        if not isinstance(value, bytes):
            raise DataError(
                f"{self}: {self.column} is a {type(value).__name__}, expected the bytes of a file"
            )
        return value


def _features(path: Path, table: _ArrowTable) -> dict[str, Any]:
    """Return the features that `datasets` stored, by column."""
    written = (table.schema.metadata or {}).get(b"huggingface")
    info = {}
    if written:
        info = json.loads(written)["info"]
    info_file = path / "dataset_info.json"
    if info_file.is_file():
        info = json.loads(info_file.read_text("utf-8"))
    return info.get("features") or {}
