"""Files of recorded predictions or scores, read as data only: `.npz`, `.csv` and `.parquet`."""

from __future__ import annotations

import csv
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import AnswersError, PackageError, UnusableModelError, printable, some_of
from harness.base.files import require_regular
from harness.data.exported import NAME, Export
from harness.data.npz import array_in, opened
from harness.inference.predictors.answers import checked, checked_scores, order_of
from harness.inference.predictors.protocol import PredictorError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from harness.inference.predictors.protocol import Scores

_SCORES: tuple[Scores, ...] = ("labels", "probabilities", "logits")
_KEYS = ("image", "export", "label")
_SCORE = "score"
"""The column of a table with a score for each image; an npz file has the array `scores`."""
_NAME = re.compile(r"[0-9a-f]{64}")
_BYTES = re.compile(r"b'[0-9a-f]{64}'")
_NUMBER = re.compile(r"[0-9]{1,18}")
_ROWS_AT_A_TIME = 65_536
_SEPARATORS = (",", ";", "\t")
"""Separators of values; the first one in the line of names counts."""
_LONGEST_HEAD = 1 << 20


@dataclass(frozen=True, eq=False)
class AnswerTable:
    """The rows of a file of predictions or scores.

    Attributes:
        scores: The kind of values.
        values: Labels, (N,) int64, values per class, (N, classes) float32, or a score of each
            image, (N,) float32.
        images: Names of exported images, (N,) of type `NAME`, numbers of images in the data, (N,)
            integers, or names of files, (N,) text. None if the rows are in the order of the data.
        export: The export whose images these are, None for images of the data.
        named: Whether the file names the classes, so that values are in the data's order.
    """

    scores: Scores
    values: np.ndarray
    images: np.ndarray | None
    export: Export | None
    named: bool = False


def read_answers(path: Path, classes: Sequence[str], *, outputs: str | None) -> AnswerTable:
    """Return the predictions in a file.

    Args:
        path: The file.
        classes: The classes of the data.
        outputs: Declares columns of classes as "logits" or "probabilities".

    Raises:
        InputError: The file has no valid predictions of these classes.
    """
    if _is_npz(path, "predictions"):
        arrays = _of_npz(path, _SCORES)
    else:
        arrays = _of_table(_parts(path, classes), classes, outputs)

    scores = next(name for name in _SCORES if name in arrays)
    values = _rows(arrays[scores])
    try:
        values = checked(values, scores, images=len(values), classes=len(classes))
        if "classes" in arrays:
            names = [str(name) for name in arrays["classes"].reshape(-1)]
            values = _in_order(values, scores, order_of(names, classes))
    except (PredictorError, UnusableModelError) as error:
        raise AnswersError(error.message) from None
    return _answers(scores, values, arrays)


def _in_order(values: np.ndarray, scores: Scores, order: np.ndarray) -> np.ndarray:
    """Return values in the data's order of classes, given its positions, (classes,) int64."""
    if scores == "labels":
        return np.asarray(np.argsort(order)[values])
    return values[:, order]


def read_scores(path: Path) -> AnswerTable:
    """Return the score of each image in a file.

    Raises:
        InputError: Not all scores are numbers from 0 to 1.
    """
    if _is_npz(path, "scores"):
        arrays = _of_npz(path, ("scores",))
    else:
        arrays = _scores_of_table(_parts(path, (_SCORE,)))

    values = _rows(arrays["scores"])
    try:
        values = checked_scores(values, images=len(values))
    except PredictorError as error:
        raise AnswersError(error.message) from None
    return _answers("scores", values, arrays)


def _is_npz(path: Path, content: str) -> bool:
    """Return whether a file is an npz file, and no table; raises for a file of another kind."""
    suffix = path.suffix.lower()
    if suffix not in {".npz", ".csv", ".parquet"}:
        raise AnswersError(f"{path.name} is no file of {content}; expected .npz, .csv, .parquet")
    with _reading(""):
        require_regular(path)
    return suffix == ".npz"


def _rows(values: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(values)
    if not len(values):
        raise AnswersError("has no rows; expected a row for each image")
    return values


def _answers(scores: Scores, values: np.ndarray, arrays: dict[str, np.ndarray]) -> AnswerTable:
    """Return checked values with the images that they are for."""
    images = arrays.get("image")
    if images is not None and len(images) != len(values):
        what = "scores" if scores == "scores" else "predictions"
        raise AnswersError(
            f"has {len(images)} images and {len(values)} {what}; expected one for each image"
        )

    exports = arrays.get("export", np.empty(0)).reshape(-1).tolist()
    if len(exports) > 1:
        raise AnswersError(
            f"has {len(exports)} different lines in export, expected one line of text"
        )
    export = Export.read(_text(exports[0])) if exports else None
    return AnswerTable(scores, values, images, export, named="classes" in arrays)


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    """Turn an error of reading a file, of a kind that the message names, into `AnswersError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise AnswersError(
            f"is no text in UTF-8 ({error.reason} at byte {error.start}); save it in UTF-8"
        ) from None
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        as_kind = f" as {kind}" if kind else ""
        raise AnswersError(f"cannot be read{as_kind} ({printable(reason)})") from None


def _of_npz(path: Path, expected: tuple[Scores, ...]) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file, with exactly one of those `expected`."""
    scored = expected == ("scores",)
    with opened(path) as (archive, members):
        kinds = [name for name in expected if name in members]
        if len(kinds) != 1:
            names = ", ".join(sorted(members)) or "none"
            wanted = "exactly one of labels, probabilities and logits"
            if scored:
                wanted = "scores, and image and export for exported images"
            raise AnswersError(f"has the arrays {names}; expected {wanted}")

        besides = {"image", "export"} if scored else {"image", "export", "classes"}
        others = sorted(set(members) - {*kinds, *besides})
        if others:
            allowed = "scores, image and export"
            if not scored:
                allowed = f"{kinds[0]}, image, export and classes"
            raise AnswersError(f"has the arrays {some_of(others)}; expected {allowed} only")

        arrays = {name: array_in(archive, member) for name, member in members.items()}
        if "image" in arrays:
            arrays["image"] = _images(arrays["image"])
        return arrays


def _images(values: np.ndarray) -> np.ndarray:
    """Return names or numbers of images, or names of files as text.

    Raises:
        AnswersError: The values are anything else.
    """
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "SU":
        raise AnswersError(
            f"image is {values.dtype} of shape {values.shape}, "
            "expected (N,) names of the export, as text"
        )

    texts = [_text(value).strip() for value in values.tolist()]
    if all(map(_NUMBER.fullmatch, texts)):
        return np.array(texts).astype(np.int64)
    other_texts = [text for text in texts if not _NAME.fullmatch(text)]
    if not other_texts:
        return np.array(texts, dtype=NAME)
    if len(other_texts) < len(texts) or _BYTES.fullmatch(other_texts[0]):
        raise AnswersError(
            f"{len(other_texts)} of {len(texts)} names in image are no names of an export, such as "
            f"{printable(other_texts[0][:40])!r}; "
            "expected 64 hexadecimal digits as text, not b'…'"
        )
    return np.array(texts, dtype=np.str_)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _parts(path: Path, classes: Sequence[str]) -> Iterator[Any]:
    """Yield the names of a table's columns, and then the columns of some rows at a time.

    Columns in `_KEYS` have text.
    """
    if path.suffix.lower() == ".csv":
        return _parts_of_csv(path, classes)
    return _parts_of_parquet(path, classes)


def _parts_of_csv(path: Path, classes: Sequence[str]) -> Iterator[Any]:
    """Yield as `_parts` does."""
    with _reading("CSV"), path.open(encoding="utf-8-sig", newline="") as file:
        start = file.readline(_LONGEST_HEAD)
        file.seek(0)
        separator = next((separator for separator in _SEPARATORS if separator in start), ",")
        reader = csv.reader(file, delimiter=separator, strict=True)

        names = [name if name in classes else name.strip() for name in next(reader, [])]
        yield names
        rows = (_whole(row, len(names), reader.line_num) for row in reader if row)
        while part := list(islice(rows, _ROWS_AT_A_TIME)):
            columns = zip(*part, strict=True)
            yield dict(zip(names, columns, strict=True))


def _parts_of_parquet(path: Path, classes: Sequence[str]) -> Iterator[Any]:
    """Yield as `_parts` does."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise PackageError(
            "needs pyarrow; pip install 'stress-harness[hf]', or write an .npz file"
        ) from None

    try:
        with _reading("Parquet"), parquet.ParquetFile(path) as file:
            names = list(map(str, file.schema_arrow.names))
            yield names
            read_names = [name for name in names if name in {*_KEYS, *classes}]
            for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=read_names):
                columns = {
                    name: column.to_pylist()
                    for name, column in zip(read_names, batch.columns, strict=True)
                }
                yield columns | {name: _texts(columns.get(name, ())) for name in _KEYS}
    except pa.ArrowException as error:
        first_line = str(error).splitlines()[0]
        raise AnswersError(f"cannot be read as Parquet ({printable(first_line)})") from None


def _texts(values: Sequence[Any]) -> list[str]:
    """Return the values of a column as text, "" for an empty cell."""
    return ["" if value is None else _text(value) for value in values]


def _whole(row: list[str], columns: int, line: int) -> list[str]:
    if len(row) != columns:
        raise AnswersError(
            f"line {line} has {len(row)} values, expected {columns} as in the first line"
        )
    return row


def _of_table(
    parts: Iterator[Any], classes: Sequence[str], outputs: str | None
) -> dict[str, np.ndarray]:
    """Return the arrays of a table: `image`, perhaps `export`, and `label` or one for each class.

    Other columns beside a label do not count.
    """
    head = next(parts, ())
    labelled = _expect_head(head, classes)

    images: list[np.ndarray] = []
    values = [np.empty((0, len(classes)), np.float32)]
    labels: list[str] = []
    exports: set[str] = set()
    for columns in parts:
        images.append(_images(np.array(columns["image"], dtype=np.str_)))
        exports.update(filter(None, columns.get("export", ())))
        if labelled:
            labels += map(sys.intern, map(str.strip, columns["label"]))
        else:
            values.append(_values_of_classes(columns, classes))

    _expect_one_kind(images)
    arrays = {
        "image": np.concatenate(images or [np.empty(0, np.int64)]),
        "export": np.array(list(exports)),
    }
    if labelled:
        return _labels(labels, classes) | arrays
    scores = "logits" if outputs == "logits" else "probabilities"
    return arrays | {scores: np.concatenate(values), "classes": np.array(classes)}


def _expect_head(head: Sequence[str], classes: Sequence[str]) -> bool:
    """Return whether a table with these columns has labels, and no column for each class.

    Raises:
        AnswersError: The table has neither, no column image, or a column twice.
    """
    if not head:
        raise AnswersError("is empty; expected a line with the names of columns")
    others = set(head) - set(_KEYS)
    labelled = "label" in head and not others & set(classes)
    by_class = "label" not in head and others == set(classes)
    if "image" not in head or not (labelled or by_class):
        raise AnswersError(
            f"has the columns {printable(some_of(head, shown=12))}; "
            f"expected image, and either label or one column for each class ({some_of(classes)})"
        )

    repeated = sorted({name for name in (*_KEYS, *classes) if head.count(name) > 1})
    if repeated:
        raise AnswersError(f"has the columns {some_of(repeated)} twice")
    return labelled


def _values_of_classes(columns: dict[str, Any], classes: Sequence[str]) -> np.ndarray:
    """Return the values of some rows, (rows, classes) float32."""
    try:
        by_class = np.array([columns[name] for name in classes], dtype=np.float64)
        with np.errstate(over="ignore"):
            return by_class.T.astype(np.float32)
    except (ValueError, TypeError) as error:
        raise AnswersError(
            "a column of a class has empty cells or other values than numbers "
            f"({printable(error)}); write 0 for classes without a probability, "
            "or the column label"
        ) from None


def _expect_one_kind(images: Sequence[np.ndarray]) -> None:
    """Raise `AnswersError` if some rows have names of images and others have numbers."""
    if len({part.dtype.kind for part in images}) > 1:
        raise AnswersError("image has both names and numbers of images; expected one of them")


def _scores_of_table(parts: Iterator[Any]) -> dict[str, np.ndarray]:
    """Return the arrays of a table: `image`, perhaps `export`, and `scores`.

    Other columns do not count.
    """
    head = next(parts, ())
    if not head:
        raise AnswersError("is empty; expected a line with the names of columns")
    if "image" not in head or _SCORE not in head:
        raise AnswersError(
            f"has the columns {printable(some_of(head, shown=12))}; expected image and {_SCORE}"
        )
    repeated = [name for name in ("image", "export", _SCORE) if head.count(name) > 1]
    if repeated:
        raise AnswersError(f"has the columns {some_of(repeated)} twice")

    images: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    exports: set[str] = set()
    for columns in parts:
        images.append(_images(np.array(columns["image"], dtype=np.str_)))
        exports.update(filter(None, columns.get("export", ())))
        try:
            scores.append(np.array(columns[_SCORE], dtype=np.float64))
        except (ValueError, TypeError) as error:
            raise AnswersError(
                f"the column {_SCORE} has empty cells or other values than numbers "
                f"({printable(error)}); write a number from 0 to 1 for each image"
            ) from None

    if not scores:
        raise AnswersError("has no rows; expected a row for each image")
    _expect_one_kind(images)
    return {
        "image": np.concatenate(images),
        "export": np.array(list(exports)),
        "scores": np.concatenate(scores),
    }


def _labels(texts: Sequence[str], classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Return labels if all are names, or else if all are numbers; a name may look like a number."""
    different = set(texts)
    names = {name.strip(): number for number, name in enumerate(classes)}
    numbers = {str(number): number for number in range(len(classes))}
    if different <= names.keys():
        labels = np.array([names[text] for text in texts], dtype=np.int64)
        return {"labels": labels, "classes": np.array(classes)}
    if different <= numbers.keys():
        return {"labels": np.array([numbers[text] for text in texts], dtype=np.int64)}

    others = different - names.keys() - numbers.keys()
    examples = some_of(sorted(repr(text[:40]) for text in others))
    count_of_others = sum(text in others for text in texts)
    count_of_names = sum(text in names for text in texts)
    count_of_numbers = sum(text in numbers for text in texts)
    raise AnswersError(
        f"{count_of_others:,} labels are no class of the data ({examples}), "
        f"{count_of_names:,} are names of classes and {count_of_numbers:,} are numbers. "
        f"Expected only names ({some_of(classes)}), or only numbers from 0 to {len(classes) - 1}"
    )
