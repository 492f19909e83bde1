"""Images in Parquet files, and in what Hugging Face's `datasets` saves to disk: a column of pictures and one of labels.

Both are read as Arrow tables, without `datasets`, so that pictures are decoded as all others are and no code of a data
set runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.decoding import decoded
from harness.data.image_files import read_picture
from harness.data.pictures import LABEL_KEYS, PICTURE_KEYS, Pictures, classes_of, files_as_they_are
from harness.errors import InputError
from harness.store.files import require_regular

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data.images import LabelledImages
    from harness.data.pipeline import Pipeline

_EXPECTED = (
    "expected Parquet files, or a folder that datasets.save_to_disk wrote, with a column of pictures, "
    f"{' or '.join(PICTURE_KEYS)}, and one of labels, {' or '.join(LABEL_KEYS)}"
)


def load_arrow(path: Path, pipeline: Pipeline) -> LabelledImages:
    """Load a Parquet file, a folder of them, or a folder that `datasets.Dataset.save_to_disk` wrote.

    Pictures are bytes of a file each, or its path relative to the data; classes are named by the features that
    `datasets` writes down. Needs pyarrow. Raises `InputError` for anything else.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise InputError(
            f"{path}: reading it needs pyarrow, which is not installed: pip install 'stress-harness[hf]'"
        ) from None
    files = _files(path)
    try:
        made_of, stored = files_as_they_are(files)
        chunks, features = _chunks(path, files)
        columns = chunks[0].schema.names if chunks else []
    except InputError:
        raise
    except Exception as error:  # A damaged file makes what reads it fail in any way.
        raise InputError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None
    picture, label = (next((n for n in names if n in columns), None) for names in (PICTURE_KEYS, LABEL_KEYS))
    if picture is None or label is None:
        raise InputError(f"{path}: has the columns {', '.join(columns) or 'none'}; {_EXPECTED}")
    try:
        given = [value for chunk in chunks for value in chunk.labels(label)]
    except Exception as error:  # As above.
        raise InputError(f"{path}: cannot be read ({error}); {_EXPECTED}") from None
    labels, classes = classes_of(given, (features.get(label) or {}).get("names"), where=str(path))
    ends = np.cumsum([len(chunk) for chunk in chunks])

    def where(position: int) -> str:
        return f"{path}: row {position}"

    def read(position: int) -> Any:
        number = int(np.searchsorted(ends, position, side="right"))
        try:
            value = chunks[number].picture(picture, position - (int(ends[number - 1]) if number else 0))
        except Exception as error:  # As above.
            raise InputError(f"{where(position)}: cannot be read ({error})") from None
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(content, bytes):
            return read_picture(content, where=where(position))
        name = value.get("path") if isinstance(value, dict) else None
        if not name:
            raise InputError(f"{where(position)}: {picture} is a {type(value).__name__}, expected the bytes of a file")
        return read_picture((path if path.is_dir() else path.parent) / name)

    return decoded(
        Pictures(
            read=read,
            labels=labels,
            classes=classes,
            name=path.resolve().stem,
            where=where,
            made_of=made_of,
            stored=stored,
            threads=False,
            whole=str(path),
        ),
        pipeline,
    )


def _files(path: Path) -> list[Path]:
    """Return the files that hold the rows, in order."""
    if path.is_file():
        return [path]
    if (path / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in path.iterdir() if (child / "state.json").is_file())
        raise InputError(f"{path}: has the splits {', '.join(splits)}; name one, such as hf:{path / splits[-1]}")
    if (path / "state.json").is_file():
        try:
            state = json.loads((path / "state.json").read_text("utf-8"))
            files = [path / entry["filename"] for entry in state["_data_files"]]
        except Exception as error:  # Whatever else the file holds.
            raise InputError(f"{path / 'state.json'}: cannot be read ({error!r}); {_EXPECTED}") from None
        return files
    files = sorted(path.glob("*.parquet")) if path.is_dir() else []
    if not files:
        raise InputError(f"{path}: there is no Parquet file; {_EXPECTED}")
    return files


class _Arrow:
    """The rows of one file or row group of a file, read when they are asked for."""

    def __init__(self, file: Any, group: int | None) -> None:
        self._file, self._group = file, group
        self._pictures: Any = None

    @property
    def schema(self) -> Any:
        return self._file.schema if self._group is None else self._file.schema_arrow

    def __len__(self) -> int:
        if self._group is None:
            return int(self._file.num_rows)
        return int(self._file.metadata.row_group(self._group).num_rows)

    def labels(self, column: str) -> list[Any]:
        return list(self._column(column).to_pylist())

    def picture(self, column: str, row: int) -> Any:
        # Rows come in order: a row group is forgotten once its last picture has been read.
        self._pictures = self._column(column) if self._pictures is None else self._pictures
        value = self._pictures[row].as_py()
        if row == len(self) - 1:
            self._pictures = None
        return value

    def _column(self, name: str) -> Any:
        table = self._file if self._group is None else self._file.read_row_group(self._group, columns=[name])
        return table.column(name)


def _chunks(path: Path, files: list[Path]) -> tuple[list[_Arrow], dict[str, Any]]:
    """Return the rows in parts, and the features that `datasets` wrote down, by column."""
    import pyarrow as pa
    from pyarrow import parquet

    chunks: list[_Arrow] = []
    for file in files:
        require_regular(file)
        if file.suffix == ".arrow":
            with pa.memory_map(str(file)) as source:
                chunks.append(_Arrow(pa.ipc.open_stream(source).read_all(), None))
        else:
            opened = parquet.ParquetFile(file, memory_map=True)
            chunks += [_Arrow(opened, group) for group in range(opened.num_row_groups)]
    written = (chunks[0].schema.metadata or {}).get(b"huggingface") if chunks else None
    info = json.loads(written)["info"] if written else {}
    if (beside := path / "dataset_info.json").is_file():
        info = json.loads(beside.read_text("utf-8"))
    return [chunk for chunk in chunks if len(chunk)], info.get("features") or {}
