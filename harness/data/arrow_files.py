"""Images in Parquet files and in data sets on disk of Hugging Face's `datasets`: columns of pictures and labels.

Both are read as Arrow tables, without `datasets`. The harness decodes the pictures, and no code of a data set runs.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
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
    from collections.abc import Callable

    from harness.data.pictures import File

_EXPECTED = (
    "expected Parquet files, or a folder that datasets.save_to_disk wrote, with a column of pictures, "
    f"{' or '.join(PICTURE_KEYS)}, and one of labels, {' or '.join(LABEL_KEYS)}"
)


def read_arrow(place: str, *, labeled: bool = True) -> Pictures:
    """Return the pictures of a Parquet file, a folder of them, or a folder that `datasets.Dataset.save_to_disk` wrote.

    Parquet files may be at the URL of a file or folder, or at one with a `*`. Each picture is the content of a picture
    file, or its path relative to the data, which must then be local. The features that `datasets` stores name the
    classes. Local files have groups: each further column of text or whole numbers that has a value in each row. Needs
    pyarrow. Raises `InputError` for anything else. Unless `labeled`, the column of labels is optional and not read.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise PackageError(
            f"{place}: reading it needs pyarrow, which is not installed: pip install 'stress-harness[hf]'"
        ) from None
    remote, path = is_url(place), Path(place)
    files: list[File] = [*(remote_files(place, suffix=".parquet") if remote else _files(path))]
    groups = {}
    with readable(place, _EXPECTED):  # pyarrow may raise any exception for a damaged file.
        tables = [*map(_ArrowTable, files)]
        features, columns = _features(path, tables[0]), tables[0].schema.names
        picture, label = (
            next((n for n in names if n in columns), "") for names in (PICTURE_KEYS, LABEL_KEYS)
        )
        if not picture or (labeled and not label):
            raise DataError(f"{place}: has the columns {', '.join(columns) or 'none'}; {_EXPECTED}")
        labels = [value for table in tables for value in table.values(label)] if labeled else []
        for name in columns if not remote else ():
            if name not in {picture, label} and all(table.is_plain(name) for table in tables):
                names = (features.get(name) or {}).get("names")
                values = [value for table in tables for value in table.values(name)]
                if all(value is not None and value != "" for value in values):
                    groups[name] = np.array(
                        [str(names[value] if names else value) for value in values]
                    )
        parts = [
            (table, number, count)
            for table in tables
            for number, (count, _) in enumerate(table.parts)
        ]
        labels = labels if labeled else [0] * sum(count for *_, count in parts)
    folder = None if remote else path if path.is_dir() else path.parent
    ends = list(accumulate(count for *_, count in parts))

    def cell(at: int, *, inside: bool = False) -> _Cell:
        part = bisect_right(ends, at)
        table, number, count = parts[part]
        file = table.file if inside else None
        return _Cell(
            table, number, at - ends[part] + count, picture, f"{place}: row {at}", folder, file
        )

    # Rows with paths keep their pictures in other files, which are not listed here.
    rows = MadeRows(
        partial(cell, inside=bool(labels) and isinstance(cell(0).value, bytes)), len(labels)
    )
    parents = [
        part
        for part in place.partition("?")[0].partition("://")[2].split("/")
        if part and "*" not in part
    ]
    return Pictures.of_files(
        files,
        rows,
        labels=labels,
        names=(features.get(label) or {}).get("names") if labeled else None,
        name=Path((parents or ["parquet"])[-1]).stem if remote else path.resolve().stem,
        whole=place,
        threads=False,
        groups=groups,
    )


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
            return [
                path / entry["filename"]
                for entry in json.loads(state.read_text("utf-8"))["_data_files"]
            ]
    if files := sorted(path.glob("*.parquet")) if path.is_dir() else []:
        return files
    raise DataError(f"{path}: has no Parquet file; {_EXPECTED}")


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
        """Return how many rows are read at once, and what reads a column of them: of each row group, or of all."""
        opened = self.opened
        if not hasattr(opened, "read_row_group"):
            return [(opened.num_rows, opened.column)]

        def column(number: int, name: str) -> Any:
            return opened.read_row_group(number, columns=[name]).column(name)

        numbers = range(opened.metadata.num_row_groups)
        return [
            (opened.metadata.row_group(number).num_rows, partial(column, number))
            for number in numbers
        ]

    def is_plain(self, name: str) -> bool:
        """Return whether there is a column of text or whole numbers."""
        from pyarrow import types

        if name not in self.schema.names:
            return False
        kind = self.schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))

    def values(self, name: str) -> list[Any]:
        """Return the values of a column as Python objects."""

        def find(_: File) -> dict[str, Any]:
            return {
                "labels": [value for _, column in self.parts for value in column(name).to_pylist()]
            }

        return list(found_once(self.file, f"labels {name}", find)["labels"])


@lru_cache(maxsize=1)
def _held(table: _ArrowTable, number: int, name: str) -> Any:
    """Return a column of pictures, the only one that stays in memory."""
    return table.parts[number][1](name)


@dataclass(frozen=True, eq=False)
class _Cell:
    """The picture in a row of a row group: the bytes of a file, or its path relative to a local folder."""

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
            return value.get("bytes") or value.get("path") if isinstance(value, dict) else value

    def picture(self) -> bytes:
        if isinstance(value := self.value, str) and self.folder is not None:
            return EncodedPicture(self.folder / value).picture()
        if not isinstance(value, bytes):
            raise DataError(
                f"{self}: {self.column} is a {type(value).__name__}, expected the bytes of a file"
            )
        return value


def _features(path: Path, table: _ArrowTable) -> dict[str, Any]:
    """Return the features that `datasets` stored, by column."""
    written = (table.schema.metadata or {}).get(b"huggingface")
    info = json.loads(written)["info"] if written else {}
    if (beside := path / "dataset_info.json").is_file():
        info = json.loads(beside.read_text("utf-8"))
    return info.get("features") or {}
