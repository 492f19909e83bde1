"""Recorded predictions or scores as a predictor, by the hash of an image's pixels."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.base.errors import AnswersError, ChangedError, InputError, printable, some_of
from harness.base.files import hash_of_file, require_regular
from harness.data.exported import FLOAT32, as_stored, hash_of_names, names_of
from harness.data.images import unit_range
from harness.data.rows import parts_of
from harness.inference.predictions import softmax
from harness.inference.predictors.answer_files import AnswerTable, read_answers, read_scores
from harness.inference.predictors.answers import are_probabilities
from harness.inference.predictors.protocol import Identity, Provides, UnknownPixelsError
from harness.perturb.poses import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.data.exported import Export
    from harness.networks.options import NetworkOptions

_SEPARATORS = re.compile(r"[/\\]|: ")
UNDECIDED = -1
"""The class of a prediction whose leading classes tie."""


@dataclass(frozen=True, eq=False)
class RecordedAnswers:
    """Predictions of a file, for the images of an export or the clean images of a data set.

    Attributes:
        identity: The identity of the file.
        provides: The kind of its answers.
        names: The names of the images, sorted, (N,).
        values: A row for each name.
        export: The export whose images these are; without one, pixels are float32.
    """

    identity: Identity
    provides: Provides
    names: np.ndarray
    values: np.ndarray
    export: Export | None = None

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the recorded predictions for pixels (N, C, H, W), float32.

        Raises:
            UnknownPixelsError: The file has no prediction for some of the images.
        """
        stored = FLOAT32
        if self.export is not None:
            stored = self.export.pixels
        names = names_of(as_stored(pixels, stored))
        rows = np.searchsorted(self.names, names)
        recorded = self.names[np.minimum(rows, len(self.names) - 1)] == names
        if recorded.all():
            return np.asarray(self.values[rows])

        if self.export is None:
            raise UnknownPixelsError(
                "has predictions of clean images only, but this check perturbs images. "
                "Export the images of the checks (`stress-harness export-inputs`), "
                "or remove such checks"
            )
        missing = int((~recorded).sum())
        raise UnknownPixelsError(
            f"has no prediction for {missing} of {len(names)} images of one request, "
            "which are not in its export. "
            "Export again with this version and the same data, checks and options"
        )

    def close(self) -> None:
        """Do nothing: the file is already in memory."""


def open_recorded(
    spec: str, options: NetworkOptions, images: LabelledImages | None
) -> RecordedAnswers:
    """Open the file of a SPEC `predictions:FILE` or `scores:FILE`.

    Args:
        spec: The SPEC.
        options: The options of the run.
        images: The images of the run; without them, the result only has an identity.

    Raises:
        InputError: The file lacks images, repeats them, or belongs to another export.
    """
    scheme, _, name = spec.partition(":")
    path = Path(name)
    scored = scheme == "scores"
    try:
        require_regular(path)
        sha256 = hash_of_file(path)
    except OSError as error:
        raise AnswersError(
            f"cannot be read ({error.strerror}); name a .npz, .csv or .parquet file"
        ) from None

    declared = "scores" if scored else str(options.model_outputs)
    identity = Identity("recorded", {"file": str(sha256), "declared": declared}, lasting=False)
    if images is None:
        provides = Provides("scores" if scored else "labels", live=False)
        return RecordedAnswers(identity, provides, np.empty(0, "S64"), np.empty(0, np.int64))

    if scored:
        answers = _with_numbers(read_scores(path), images)
    else:
        answers = _answers_in(path, images, options.model_outputs)
    if hash_of_file(path) != sha256:
        raise ChangedError("changed during reading; run again when nothing writes to it")

    if answers.export is not None:
        names, values = _of_export(answers)
    else:
        names, values = _of_clean(answers, images)
    unique_names, first_rows = _unique(names, values, what="scores" if scored else "predictions")
    classes = images.classes if answers.named else ()
    provides = Provides(answers.scores, live=False, classes=classes)
    return RecordedAnswers(identity, provides, unique_names, values[first_rows], answers.export)


def _unique(names: np.ndarray, values: np.ndarray, *, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of different images, sorted, and the first row of each, (K,) int64.

    Raises:
        AnswersError: Images with the same pixels have other predictions.
    """
    unique_names, first_rows, numbers = np.unique(names, return_index=True, return_inverse=True)
    predicted = values
    if values.ndim > 1:
        predicted = values.argmax(axis=1)
    differing = int((predicted != predicted[first_rows][numbers]).sum())
    if differing:
        raise AnswersError(
            f"has other {what} for {differing} images than for images with the same pixels"
        )
    return unique_names, first_rows


class RecordedSome(NamedTuple):
    """Recorded predictions of M clean images.

    Attributes:
        positions: The positions of the images, (M,) int64, ascending.
        classes: The predicted classes, (M,) int64. A class is `UNDECIDED` if the leading classes
            tie, as rounded probabilities may.
        probabilities: (M, classes), or None for a file of labels or of scores that are no
            probabilities.
    """

    positions: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray | None

    def take(self, rows: np.ndarray) -> RecordedSome:
        """Return the predictions in some rows, (K,) int64."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return RecordedSome(self.positions[rows], self.classes[rows], probabilities)


def answers_to_some(path: Path, images: LabelledImages, *, outputs: str | None) -> RecordedSome:
    """Return the predictions in a file for some of the clean images.

    Args:
        path: The file.
        images: The images of the data.
        outputs: "logits" or "probabilities" for columns of classes; None if not declared.

    Raises:
        InputError: Predictions are of exported images, of images outside the data, or of one image
            twice.
    """
    try:
        answers = _answers_in(path, images, outputs)
        classes = _decided_classes(answers.values)
        numbers = _numbers(answers, images)
    except InputError as error:
        raise AnswersError(f"{path}: {error.message}", setting=error.setting) from error

    _, positions, rows = np.intersect1d(images.positions.numpy(), numbers, return_indices=True)
    order = np.argsort(positions)
    in_file = RecordedSome(numbers, classes, _probabilities(answers)).take(rows[order])
    return in_file._replace(positions=positions[order])


def _decided_classes(values: np.ndarray) -> np.ndarray:
    """Return the class of each row, `UNDECIDED` for a tie; raises if every row ties."""
    if values.ndim == 1:
        return values
    tied = (values == values.max(axis=1, keepdims=True)).sum(axis=1) > 1
    if tied.all():
        raise AnswersError(
            "has the same score for the leading classes of every image; "
            "write more digits, or labels"
        )
    return np.where(tied, UNDECIDED, values.argmax(axis=1))


def _probabilities(answers: AnswerTable) -> np.ndarray | None:
    if answers.scores == "logits":
        return softmax(answers.values)
    if answers.scores == "probabilities" and are_probabilities(answers.values):
        return answers.values
    return None


def _answers_in(path: Path, images: LabelledImages, outputs: str | None) -> AnswerTable:
    """Return the answers in a file, with numbers of images in place of the names of their files.

    Raises:
        InputError: The file is that of the data itself, under any name: its labels are the truth.
    """
    data = Path(images.source)
    both_files = path.is_file() and data.is_file()
    same_size = both_files and path.stat().st_size == data.stat().st_size
    if same_size and hash_of_file(path) == hash_of_file(data):
        raise AnswersError(
            f"is the file of the data, {data}, so its labels are no predictions; "
            "name their own file"
        )
    return _with_numbers(read_answers(path, images.classes, outputs=outputs), images)


def _with_numbers(answers: AnswerTable, images: LabelledImages) -> AnswerTable:
    """Return the answers with numbers of images in place of the names of their files."""
    if answers.images is None or answers.images.dtype.kind != "U":
        return answers
    return replace(answers, images=_numbers_of_files(answers.images.tolist(), images))


def _of_export(answers: AnswerTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the rows and their predictions.

    Raises:
        AnswersError: The names are not exactly those of the export.
    """
    export, names = answers.export, answers.images
    assert export is not None
    if export.protocol != PROTOCOL:
        raise AnswersError(
            f"is of protocol {export.protocol}, this version works with protocol {PROTOCOL}; "
            "export again"
        )
    if names is None or names.dtype.kind != "S":
        raise AnswersError(
            "has an export but no names of images; copy the array image of each shard"
        )

    unique_names = np.unique(names)
    missing = export.images - len(unique_names)
    if missing > 0:
        raise AnswersError(
            f"lacks {missing:,} of the {export.images:,} images of its export; predict all of them"
        )
    if len(names) > export.images or hash_of_names(unique_names) != export.names:
        raise AnswersError(
            f"has {len(names):,} rows of {len(unique_names):,} images, "
            f"expected one row for each of the {export.images:,} images of its export. "
            "Copy names and the line export from one export"
        )
    return names, answers.values


def _of_clean(answers: AnswerTable, images: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the data's clean images, and their predictions.

    Raises:
        InputError: An image has no prediction.
    """
    row_of = {number: row for row, number in enumerate(_numbers(answers, images).tolist())}
    rows = [row_of.get(position, -1) for position in images.positions.tolist()]
    missing = rows.count(-1)
    if missing:
        raise AnswersError(
            f"lacks {missing:,} of the {len(rows):,} images of the data; predict all of them"
        )

    bytes_of_image = 4 * int(np.prod(images.pixels.shape[1:]))
    names = []
    for part in parts_of(len(images), bytes_of_image):
        pixels = unit_range(images.pixels[part]).numpy()
        names.append(names_of(as_stored(pixels, FLOAT32)))
    return np.concatenate(names), answers.values[np.array(rows, dtype=np.int64)]


def _numbers(answers: AnswerTable, images: LabelledImages) -> np.ndarray:
    """Return the number in the full split of each row's image, (N,).

    Raises:
        InputError: A row has no number, or two rows have the same.
    """
    numbers, positions = answers.images, images.positions.numpy()
    if numbers is None:
        return _numbers_in_order(len(answers.values), images)
    if numbers.dtype.kind == "S":
        raise AnswersError(
            "has names of exported images but no line export, for clean images. "
            "Copy the line from manifest.json, or write numbers of images in the data, from 0"
        )

    repeated = len(numbers) - len(np.unique(numbers))
    if repeated:
        raise AnswersError(
            f"repeats {repeated:,} of its {len(numbers):,} images; expected one row for each image"
        )
    if images.indices is not None:
        return numbers
    outside = np.setdiff1d(numbers, positions)
    if len(outside):
        advice = "; numbers of images begin at 0" if numbers.min() > 0 else ""
        examples = some_of([str(number) for number in outside.tolist()])
        raise AnswersError(
            f"has {len(outside):,} images that the data do not have: {examples}{advice}"
        )
    return numbers


def _numbers_in_order(count: int, images: LabelledImages) -> np.ndarray:
    """Return the numbers of rows in the order of the data, (count,) int64.

    Raises:
        AnswersError: There are not as many rows as images.
    """
    positions = images.positions.numpy()
    if images.indices is None:
        fits = count == len(positions)
    else:
        fits = count > positions.max()
    if not fits:
        raise AnswersError(
            f"has {count:,} predictions without names or numbers of images, "
            f"the data have {len(positions):,} images; expected one for each, in their order"
        )
    return np.arange(count)


def _numbers_of_files(names: Sequence[str], images: LabelledImages) -> np.ndarray:
    """Return the number in the data of each image whose file is named, (N,) int64.

    A file is the one with the longest common end of its path; folders above may differ.

    Raises:
        InputError: The data have no files, or a name is of no file or of several.
    """
    if images.origin is None:
        raise AnswersError(
            f"names images as {printable(names[0][:40])!r}, and the data have no files; "
            "expected their numbers, from 0"
        )

    numbers_by_end: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number in images.positions.tolist():
        for end in _ends(images.origin.where(number)):
            numbers_by_end[end].append(number)
    numbers_by_name = []
    for name in names:
        longest_end = next((end for end in _ends(name) if end in numbers_by_end), None)
        numbers = [] if longest_end is None else numbers_by_end[longest_end]
        numbers_by_name.append(numbers)

    first_file = images.origin.where(int(images.positions[0]))
    example = printable("/".join(_ends(first_file)[0][1::-1]))
    counts = [len(numbers) for numbers in numbers_by_name]
    _expect_files(
        [name for name, count in zip(names, counts, strict=True) if count == 0],
        of=len(names),
        what="no files",
        advice=f"expected names such as {example!r}, or numbers from 0",
    )
    _expect_files(
        [name for name, count in zip(names, counts, strict=True) if count > 1],
        of=len(names),
        what="those of several files",
        advice=f"write more of their paths, such as {example!r}",
    )
    return np.array(numbers_by_name, dtype=np.int64)[:, 0]


def _expect_files(wrong_names: Sequence[str], *, of: int, what: str, advice: str) -> None:
    """Raise `AnswersError` if there are wrong names of files."""
    if wrong_names:
        raise AnswersError(
            f"{len(wrong_names):,} of {of:,} names in image are {what} of the data: "
            f"{printable(some_of(wrong_names))}; {advice}"
        )


def _ends(path: str) -> list[tuple[str, ...]]:
    """Return the ends of a path, the longest one first, each with its last part first."""
    parts = [part for part in _SEPARATORS.split(path.strip()) if part not in {"", "."}]
    parts.reverse()
    return [tuple(parts[:length]) for length in range(len(parts), 0, -1)]
