"""Images in Parquet files and in data sets on disk of Hugging Face's `datasets`: columns of pictures and labels.

Both are read as Arrow tables, without `datasets`. The harness decodes the pictures, and no code of a data set runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import DataError, InputError, PackageError
from harness.base.files import require_regular
from harness.data.image_files import read_content, read_picture
from harness.data.pictures import LABEL_KEYS, PICTURE_KEYS, Pictures, classes_of, files_as_they_are, notes_on_versions
from harness.data.remote import RemoteFile, found_once, is_url, remote_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.data.pictures import File

_EXPECTED = (
    "expected Parquet files, or a folder that datasets.save_to_disk wrote, with a column of pictures, "
    f"{' or '.join(PICTURE_KEYS)}, and one of labels, {' or '.join(LABEL_KEYS)}"
)


def read_arrow(place: str) -> Pictures:
    """Return the pictures of a Parquet file, a folder of them, or a folder that `datasets.Dataset.save_to_disk` wrote.

    Parquet files may be at the URL of a file or folder, or at one with a `*`. Each picture is the content of a picture
    file, or its path relative to the data, which must then be local. The features that `datasets` stores name the
    classes. Local files have groups: each further column of text or whole numbers that has a value in each row. Needs
    pyarrow. Raises `InputError` for anything else.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise PackageError(
            f"{place}: reading it needs pyarrow, which is not installed: pip install 'stress-harness[hf]'"
        ) from None
    remote, path = is_url(place), Path(place)
    files: list[File] = [*(remote_files(place, suffix=".parquet") if remote else _files(path))]
    try:
        made_of, stored = files_as_they_are(files)
        tables = [*map(_Table, files)]
        chunks = [chunk for table in tables for chunk in table.chunks]
        features = _features(path, chunks)
        columns = chunks[0].table.columns if chunks else []
    except InputError:
        raise
    except Exception as error:  # pyarrow may raise any exception for a damaged file.
        raise DataError(f"{place}: cannot be read ({error}); {_EXPECTED}") from None
    picture, label = (next((n for n in names if n in columns), None) for names in (PICTURE_KEYS, LABEL_KEYS))
    if picture is None or label is None:
        raise DataError(f"{place}: has the columns {', '.join(columns) or 'none'}; {_EXPECTED}")
    chunks = [chunk for chunk in chunks if chunk.count]
    try:
        given = [value for table in tables for value in table.labels(label)]
        groups = {} if remote else _groups(tables, features, other_than={picture, label})
    except Exception as error:  # As above.
        raise DataError(f"{place}: cannot be read ({error}); {_EXPECTED}") from None
    labels, classes = classes_of(given, (features.get(label) or {}).get("names"), where=place)
    ends = np.array([*accumulate(chunk.count for chunk in chunks)])

    def where(position: int) -> str:
        return f"{place}: row {position}"

    def found(position: int) -> tuple[_Chunk, int]:
        number = int(np.searchsorted(ends, position, side="right"))
        return chunks[number], position - (int(ends[number - 1]) if number else 0)

    def value_of(position: int) -> Any:
        chunk, row = found(position)
        try:
            value = chunk.picture(picture, row)
        except Exception as error:  # As above.
            raise DataError(f"{where(position)}: cannot be read ({error})") from None
        return value.get("bytes") or value.get("path") if isinstance(value, dict) else value

    def content(position: int) -> bytes:
        value = value_of(position)
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or remote:
            raise DataError(f"{where(position)}: {picture} is a {type(value).__name__}, expected the bytes of a file")
        return read_content((path if path.is_dir() else path.parent) / value)

    def read(position: int) -> Any:
        return read_picture(content(position), where=where(position))

    return Pictures(
        read=read,
        labels=labels,
        classes=classes,
        name=_name_of(place) if remote else path.resolve().stem,
        where=where,
        made_of=made_of,
        stored=stored,
        notes=notes_on_versions(place, made_of),
        threads=False,
        whole=place,
        groups=groups,
        # Rows with paths keep their pictures in other files, which are not listed here.
        content=content,
        file=(lambda position: found(position)[0].table.file) if isinstance(value_of(0), bytes) else None,
        ends=() if chunks[0].group is None else ends.tolist(),
    )


def _groups(tables: Sequence[_Table], features: Mapping[str, Any], *, other_than: set[str]) -> dict[str, np.ndarray]:
    """Return the columns of text or whole numbers that all tables have, with a value in each row, as text."""
    found = {}
    for name in tables[0].columns:
        if name in other_than or not all(name in table.columns and table.is_plain(name) for table in tables):
            continue
        names = (features.get(name) or {}).get("names")
        values = [value for table in tables for value in table.labels(name)]
        if all(value is not None and value != "" for value in values):
            found[name] = np.array([str(names[value] if names else value) for value in values])
    return found


def _name_of(url: str) -> str:
    """Return the last part of a URL's path without a `*`."""
    parts = [part for part in url.partition("?")[0].partition("://")[2].split("/") if part and "*" not in part]
    return Path(parts[-1]).stem if parts else "parquet"


def _files(path: Path) -> list[Path]:
    """Return the files that hold the rows, in order."""
    if path.is_file():
        return [path]
    if (path / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in path.iterdir() if (child / "state.json").is_file())
        raise DataError(f"{path}: has the splits {', '.join(splits)}; name one, such as hf:{path / splits[-1]}")
    if (path / "state.json").is_file():
        try:
            state = json.loads((path / "state.json").read_text("utf-8"))
            files = [path / entry["filename"] for entry in state["_data_files"]]
        except Exception as error:  # The file may hold anything.
            raise DataError(f"{path / 'state.json'}: cannot be read ({error!r}); {_EXPECTED}") from None
        return files
    files = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not files:
        raise DataError(f"{path}: has no Parquet file; {_EXPECTED}")
    return files


@dataclass(frozen=True, eq=False)
class _Table:
    """The rows of one file, which is opened at the first use, and again in another process."""

    file: File

    def __reduce__(self) -> tuple[Any, ...]:
        return _Table, (self.file,)

    @cached_property
    def chunks(self) -> list[_Chunk]:
        """Return the units of reading: the row groups of a Parquet file, or all rows as one."""
        if self._mapped:
            return [_Chunk(self, None, int(self._opened.num_rows))]
        groups = self._opened.metadata
        return [_Chunk(self, number, groups.row_group(number).num_rows) for number in range(groups.num_row_groups)]

    @property
    def schema(self) -> Any:
        return self._opened.schema if self._mapped else self._opened.schema_arrow

    @property
    def columns(self) -> list[str]:
        return list(self.schema.names)

    def is_plain(self, name: str) -> bool:
        """Return whether a column holds text or whole numbers."""
        from pyarrow import types

        kind = self.schema.field(name).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind))

    def column(self, group: int | None, name: str) -> Any:
        table = self._opened if group is None else self._opened.read_row_group(group, columns=[name])
        return table.column(name)

    def labels(self, name: str) -> list[Any]:
        """Return the values of a column as Python objects."""

        def find() -> dict[str, Any]:
            return {"labels": [value for chunk in self.chunks for value in self.column(chunk.group, name).to_pylist()]}

        found = found_once(self.file, f"labels {name}", find) if isinstance(self.file, RemoteFile) else find()
        return list(found["labels"])

    @property
    def _mapped(self) -> bool:
        return isinstance(self.file, Path) and self.file.suffix == ".arrow"

    @cached_property
    def _opened(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        if isinstance(self.file, RemoteFile):
            return parquet.ParquetFile(self.file.opened(blocks=False))
        require_regular(self.file)
        if self._mapped:
            with pa.memory_map(str(self.file)) as source:
                return pa.ipc.open_stream(source).read_all()
        return parquet.ParquetFile(self.file, memory_map=True)

    @cached_property
    def held(self) -> dict[tuple[int | None, str], Any]:
        """Return the column of pictures in memory, at most one, by row group and name."""
        return {}


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Rows of a table that are read at once: the `count` rows of a row group, or of the whole table."""

    table: _Table
    group: int | None
    count: int

    def picture(self, column: str, row: int) -> Any:
        # Rows come in order, so a row group leaves memory after its last picture.
        held, key = self.table.held, (self.group, column)
        if key not in held:
            held.clear()
            held[key] = self.table.column(*key)
        value = held[key][row].as_py()
        if row == self.count - 1:
            held.clear()
        return value


def _features(path: Path, chunks: list[_Chunk]) -> dict[str, Any]:
    """Return the features that `datasets` stored, by column."""
    written = (chunks[0].table.schema.metadata or {}).get(b"huggingface") if chunks else None
    info = json.loads(written)["info"] if written else {}
    if (beside := path / "dataset_info.json").is_file():
        info = json.loads(beside.read_text("utf-8"))
    return info.get("features") or {}
