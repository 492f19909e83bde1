"""Files of recorded predictions, read as data only: `.npz`, `.csv` and `.parquet`."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import AnswersError, PackageError, printable, some_of
from harness.base.files import require_regular
from harness.data.exported import NAME, Export
from harness.data.npz import array_in, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.inference.predictors.protocol import Scores

MAX_BYTES, MAX_TEXT = 16 << 30, 4 << 30
"""Largest file in bytes; the second value is for text."""
_SCORES: tuple[Scores, ...] = ("labels", "probabilities", "logits")
_KEYS = ("image", "export", "label")
_NAMED, _BYTES = re.compile(r"[0-9a-f]{64}"), re.compile(r"b'[0-9a-f]{64}'")
_ROWS_AT_A_TIME = 65_536
_SEPARATORS = (",", ";", "\t")
"""Separators of values; the first one in the line of names counts."""
_LONGEST_HEAD = 1 << 20


@dataclass(frozen=True, eq=False)
class Answers:
    """The rows of a file of predictions.

    `images` are names of exported images, (N,) of type `NAME`, numbers of images in the data, (N,) integers, or names
    of files, (N,) text. They are None if the rows are in the order of the data. `values` are labels, (N,) int64,
    or scores, (N, classes) float32. They are `named` if the file names their classes, so these are in the data's order.
    """

    scores: Scores
    values: np.ndarray
    images: np.ndarray | None
    export: Export | None
    named: bool = False

    def __len__(self) -> int:
        return len(self.values)


def read_answers(path: Path, classes: Sequence[str], *, outputs: str | None) -> Answers:
    """Return the predictions in a file; `outputs` declares columns of classes as logits or probabilities.

    Raises `InputError` for a file without valid predictions of these classes.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise AnswersError(f"{path.name} is no file of predictions; expected {', '.join(_READERS)}")
    try:
        require_regular(path)
        size = path.stat().st_size
    except OSError as error:
        raise AnswersError(f"cannot be read ({error.strerror or error})") from None
    limit = MAX_TEXT if path.suffix.lower() == ".csv" else MAX_BYTES
    if size > limit:
        raise AnswersError(f"has {size:,} bytes, more than {limit:,}; write an .npz file with labels or float32 scores")
    answers = reader(path, classes, outputs)
    if not len(answers):
        raise AnswersError("has no rows; expected a row for each image")
    _expect_values(answers, classes)
    return answers


def _expect_values(answers: Answers, classes: Sequence[str]) -> None:
    values, scores = answers.values, answers.scores
    if scores == "labels":
        outside = (values < 0) | (values >= len(classes))
        if outside.any():
            found = some_of([str(each) for each in np.unique(values[outside])])
            raise AnswersError(
                f"{outside.sum()} of {len(values)} labels are no class: {found}; expected 0 to {len(classes) - 1}"
            )
        return
    if values.shape[1:] != (len(classes),):
        raise AnswersError(
            f"{scores} have the shape {values.shape}, expected {len(classes)} columns, one for each class of the data"
        )
    if wrong := int((~np.isfinite(values)).any(axis=1).sum()):
        raise AnswersError(f"{scores} of {wrong} of {len(values)} images are NaN or infinite")


def _labels(values: np.ndarray) -> np.ndarray:
    if not np.issubdtype(values.dtype, np.integer) or values.ndim != 1:
        raise AnswersError(f"labels are {values.dtype} of shape {values.shape}, expected (N,) integers")
    if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
        raise AnswersError(f"labels run to {values.max()}, which is no class")
    return values.astype(np.int64)


def _of_npz(path: Path, classes: Sequence[str], outputs: str | None) -> Answers:  # noqa: ARG001  The names of the arrays declare it.
    with opened(path) as (archive, members):
        kinds = [name for name in _SCORES if name in members]
        if len(kinds) != 1:
            found = ", ".join(sorted(members)) or "none"
            raise AnswersError(f"has the arrays {found}; expected exactly one of labels, probabilities and logits")
        if others := sorted(set(members) - {*kinds, "image", "export", "classes"}):
            raise AnswersError(f"has the arrays {some_of(others)}; expected {kinds[0]}, image, export and classes only")
        arrays = {name: array_in(archive, member) for name, member in members.items()}
    scores = kinds[0]
    values = arrays[scores]
    if scores == "labels":
        values = _labels(values)
    elif not np.issubdtype(values.dtype, np.floating) or values.ndim != 2:  # noqa: PLR2004  (N, classes)
        raise AnswersError(f"{scores} are {values.dtype} of shape {values.shape}, expected (N, {len(classes)}) floats")
    else:
        values = _as_float32(values)
    if "classes" in arrays:
        values = _in_order(values, [str(name) for name in arrays["classes"].reshape(-1)], classes, scores)
    images = _images(arrays["image"]) if "image" in arrays else None
    if images is not None and len(images) != len(values):
        raise AnswersError(f"has {len(images)} images and {len(values)} predictions; expected one for each image")
    export = None
    if "export" in arrays:
        if arrays["export"].size != 1:
            raise AnswersError(f"export is an array of {arrays['export'].size} values, expected one line of text")
        export = Export.read(_text(arrays["export"].reshape(-1)[0]))
    return Answers(scores, values, images, export, named="classes" in arrays)


def _in_order(values: np.ndarray, names: list[str], classes: Sequence[str], scores: Scores) -> np.ndarray:
    """Return values in the order of the data's classes, from columns or labels in the order of `names`."""
    if sorted(names) != sorted(classes):
        raise AnswersError(f"classes are {some_of(names)}, the data have {some_of(classes)}")
    if scores == "labels":
        if len(values) and (values.min() < 0 or values.max() >= len(names)):
            return values  # `_expect_values` refuses them with their number.
        return np.asarray(np.array([classes.index(name) for name in names], dtype=np.int64)[values])
    if values.shape[1] != len(names):
        return values
    return values[:, [names.index(name) for name in classes]]


def _as_float32(values: np.ndarray) -> np.ndarray:
    """Return values as float32; those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _images(values: np.ndarray) -> np.ndarray:
    """Return names or numbers of images, or names of files as text; raises `InputError` for anything else."""
    if values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "SU":
        raise AnswersError(
            f"image is {values.dtype} of shape {values.shape}, expected (N,) names of the export, as text"
        )
    texts = [_text(value) for value in values.tolist()]
    named = sum(_NAMED.fullmatch(text) is not None for text in texts)
    if named == len(texts):
        return np.array(texts, dtype=NAME)
    wrong = next(text for text in texts if not _NAMED.fullmatch(text))
    if named or _BYTES.fullmatch(wrong):
        raise AnswersError(
            f"{len(texts) - named} of {len(texts)} names in image are no names of an export, such as "
            f"{printable(wrong[:40])!r}; expected 64 hexadecimal digits as text, not b'…'"
        )
    return np.array(texts, dtype=np.str_)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _of_csv(path: Path, classes: Sequence[str], outputs: str | None) -> Answers:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            start = file.readline(_LONGEST_HEAD)
            file.seek(0)
            separator = next((each for each in _SEPARATORS if each in start), ",")
            rows = csv.reader(file, delimiter=separator, strict=True)
            head = next(rows, None)
            if head is None:
                raise AnswersError("is empty; expected a line with the names of columns")
            head = [name if name in classes else name.strip() for name in head]
            return _of_rows(head, _in_parts(rows, head), classes, outputs)
    except UnicodeDecodeError as error:
        raise AnswersError(f"is no text in UTF-8 ({error.reason} at byte {error.start}); save it in UTF-8") from None
    except csv.Error as error:
        raise AnswersError(f"cannot be read as CSV ({error})") from None
    except OSError as error:
        raise AnswersError(f"cannot be read ({error.strerror or error})") from None


def _in_parts(rows: Iterator[list[str]], head: Sequence[str]) -> Iterator[dict[str, Sequence[str]]]:
    """Yield the columns of some rows at a time, by their names."""
    part: list[list[str]] = []
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        if len(row) != len(head):
            raise AnswersError(f"line {number} has {len(row)} values, expected {len(head)} as in the first line")
        part.append(row)
        if len(part) == _ROWS_AT_A_TIME:
            yield dict(zip(head, zip(*part, strict=True), strict=True))
            part = []
    if part:
        yield dict(zip(head, zip(*part, strict=True), strict=True))


def _of_parquet(path: Path, classes: Sequence[str], outputs: str | None) -> Answers:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise PackageError("needs pyarrow; pip install 'stress-harness[hf]', or write an .npz file") from None
    try:
        with parquet.ParquetFile(path) as file:
            head = list(map(str, file.schema_arrow.names))
            known = [name for name in head if name in {*_KEYS, *classes}]
            batches = file.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=known)
            parts = (
                {
                    name: tuple(map(_plain, column.to_pylist()))
                    if name in _KEYS
                    else column.to_numpy(zero_copy_only=False)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                for batch in batches
            )
            return _of_rows(head, parts, classes, outputs)
    except (OSError, pa.ArrowException) as error:
        raise AnswersError(f"cannot be read as Parquet ({printable(str(error).splitlines()[0])})") from None


def _plain(value: object) -> str:
    return "" if value is None else _text(value)


def _of_rows(
    head: list[str], parts: Iterator[Mapping[str, Any]], classes: Sequence[str], outputs: str | None
) -> Answers:
    """Return the predictions of a table: `image`, perhaps `export`, and `label` or a column for each class.

    Other columns beside a label do not count.
    """
    others = [name for name in head if name not in _KEYS]
    labelled = "label" in head and not set(others) & set(classes)
    by_class = "label" not in head and set(others) == set(classes)
    if "image" not in head or not (labelled or by_class):
        raise AnswersError(
            f"has the columns {printable(some_of(head, shown=12))}; expected image, and either label or one column for "
            f"each class ({some_of(classes)})"
        )
    if twice := sorted({name for name in (*_KEYS, *classes) if head.count(name) > 1}):
        raise AnswersError(f"has the columns {some_of(twice)} twice")
    images: list[np.ndarray] = []
    values: list[np.ndarray] = []
    exports: set[str] = set()
    for columns in parts:
        images.append(_names_or_numbers(columns["image"]))
        exports.update(filter(None, columns.get("export", ())))
        values.append(_numbers_of(columns["label"], classes) if labelled else _floats(columns, classes))
    if len(exports) > 1:
        raise AnswersError(f"has {len(exports)} different lines in export, expected rows of one export")
    scores: Scores = "labels" if labelled else ("logits" if outputs == "logits" else "probabilities")
    if not values:
        return Answers(scores, np.empty(0, dtype=np.int64), None, None)
    if len({part.dtype.kind for part in images}) > 1:
        raise AnswersError("image has both names and numbers of images; expected one of them")
    export = Export.read(exports.pop()) if exports else None
    found, names = np.concatenate(values), np.concatenate(images)
    if not labelled:
        return Answers(scores, found, names, export, named=True)
    return Answers(scores, _one_kind(found, classes), names, export, named=bool((found[:, 0] >= 0).all()))


def _names_or_numbers(texts: Sequence[str]) -> np.ndarray:
    texts = [text.strip() for text in texts]
    if all(text.isascii() and text.isdigit() and len(text) <= 18 for text in texts):  # noqa: PLR2004  Fits into int64.
        return np.array([int(text) for text in texts], dtype=np.int64)
    return _images(np.array(texts, dtype=np.str_))


def _numbers_of(texts: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the class of each text by its name and by its number, (N, 2); -1 for no class."""
    names = {name: number for number, name in enumerate(classes)}
    numbers = {str(number): number for number in range(len(classes))}
    stripped = [text.strip() for text in texts]
    found = [(names.get(text, -1), numbers.get(text, -1)) for text in stripped]
    if (-1, -1) in found:
        wrong = sorted({text[:40] for text, classed in zip(texts, found, strict=True) if classed == (-1, -1)})
        raise AnswersError(
            f"{found.count((-1, -1))} labels are no class of the data: {printable(some_of(list(map(repr, wrong))))}; "
            f"expected names of classes, or numbers from 0 to {len(classes) - 1}"
        )
    return np.array(found, dtype=np.int64)


def _one_kind(found: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return labels if all are names, or else if all are numbers; a name may look like a number."""
    for labels in found.T:
        if (labels >= 0).all():
            return np.asarray(labels)
    named, numbered = (found >= 0).sum(axis=0)
    raise AnswersError(
        f"{named:,} of {len(found):,} labels are names of classes and {numbered:,} are numbers; expected only names "
        f"({some_of(classes)}), or only numbers from 0 to {len(classes) - 1}"
    )


def _floats(columns: Mapping[str, Any], classes: Sequence[str]) -> np.ndarray:
    try:
        return _as_float32(np.array([columns[name] for name in classes], dtype=np.float64).T)
    except (ValueError, TypeError) as error:
        if empty := sum(str(value or "").strip() == "" for name in classes for value in columns[name]):
            raise AnswersError(
                f"{empty:,} cells of columns of classes are empty; write 0 for classes without a probability, or the "
                "column label"
            ) from None
        raise AnswersError(f"a column of a class has other values than numbers ({printable(error)})") from None


_READERS: dict[str, Callable[[Path, Sequence[str], str | None], Answers]] = {
    ".npz": _of_npz,
    ".csv": _of_csv,
    ".parquet": _of_parquet,
}
