"""Recorded predictions as a predictor, which finds them by the hash of an image's pixels."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import AnswersError, ChangedError, InputError, some_of
from harness.base.files import hash_of_file, require_regular
from harness.data.exported import FLOAT32, as_stored, hash_of_names, names_of
from harness.data.images import unit_range
from harness.data.rows import parts_of
from harness.inference.predictors.answer_files import Answers, read_answers
from harness.inference.predictors.file_names import numbers_of_files
from harness.inference.predictors.protocol import Identity, Provides, UnknownPixelsError
from harness.perturb.poses import PROTOCOL

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.data.exported import Export
    from harness.networks.options import NetworkOptions

UNDECIDED = -1
"""The class of a prediction whose leading classes tie."""
_PLAIN = (
    "has predictions of clean images only, but this check perturbs images. Export the images of the checks "
    "(`stress-harness export-inputs`), or remove such checks"
)


class RecordedAnswers:
    """Predictions of a file, for the images of an export or the clean images of a data set.

    `names` are sorted, (N,), with a row for each in `values`. Without an `export`, pixels are float32.
    """

    def __init__(
        self, identity: Identity, provides: Provides, names: np.ndarray, values: np.ndarray, export: Export | None
    ) -> None:
        self.identity, self.provides = identity, provides
        self.export = export
        self._names, self._values = names, values

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the recorded predictions for pixels (N, C, H, W), float32; raises `UnknownPixelsError` for others."""
        stored = FLOAT32 if self.export is None else self.export.pixels
        asked = names_of(as_stored(pixels, stored))
        rows = np.searchsorted(self._names, asked)
        known = self._names[np.minimum(rows, len(self._names) - 1)] == asked
        if not known.all():
            raise UnknownPixelsError(self._lacking(int((~known).sum()), len(asked)))
        return np.asarray(self._values[rows])

    def close(self) -> None:
        """Do nothing: the file is already in memory."""

    def _lacking(self, count: int, asked: int) -> str:
        if self.export is None:
            return _PLAIN
        return (
            f"has no prediction for {count} of {asked} images of one request, which are not in its export. Export "
            "again with this version and the same data, checks and options"
        )


def open_recorded(spec: str, options: NetworkOptions, images: LabelledImages | None) -> RecordedAnswers:
    """Open the file of a SPEC `predictions:FILE`; without images the predictor only has an identity.

    Raises `InputError` for a file that lacks images, repeats them, or belongs to another export.
    """
    path = Path(spec.partition(":")[2])
    try:
        require_regular(path)
        before, sha256 = path.stat(), hash_of_file(path)
    except OSError as error:
        raise AnswersError(f"cannot be read ({error.strerror}); name a .npz, .csv or .parquet file") from None
    identity = Identity("recorded", {"file": str(sha256), "declared": str(options.model_outputs)}, lasting=False)
    if images is None:
        return RecordedAnswers(
            identity, Provides("labels", live=False), np.empty(0, "S64"), np.empty(0, np.int64), None
        )
    answers = _answers_in(path, images, options.model_outputs)
    after = path.stat()
    if (before.st_size, before.st_mtime_ns, before.st_ino) != (after.st_size, after.st_mtime_ns, after.st_ino):
        raise ChangedError("changed during reading; run again when nothing writes to it")
    if answers.export is not None:
        names, rows = _of_export(answers), np.arange(len(answers))
    else:
        rows = _rows_of_clean(answers, images)
        names = _of_clean(images)
    names, rows = _without_twins(names, rows, answers)
    provides = Provides(answers.scores, live=False, classes=images.classes if answers.named else ())
    return RecordedAnswers(identity, provides, names, answers.values[rows], answers.export)


def answers_to_some(path: Path, images: LabelledImages, *, outputs: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of clean images with a prediction in a file, (M,) int64, ascending, and the classes, (M,).

    A prediction is `UNDECIDED` if its leading classes tie, as rounded probabilities may.
    Raises `InputError` for predictions of exported images, of images outside the data, and of one image twice.
    """
    named = f"{path}: "
    try:
        answers = _answers_in(path, images, outputs)
        classes = answers.values if answers.values.ndim == 1 else _decided(answers.values)
    except InputError as error:
        raise AnswersError(named + error.message, setting=error.setting) from error
    numbers = answers.images
    if numbers is None:
        if len(answers) != len(images):
            raise AnswersError(
                f"{named}has {len(answers):,} predictions without numbers of images, the data have {len(images):,} "
                "images; add the numbers, or predict all images in their order"
            )
        return np.arange(len(images)), classes
    if numbers.dtype.kind == "S":
        raise AnswersError(f"{named}has images of an export; expected numbers of images in the data, from 0")
    if repeated := len(numbers) - len(np.unique(numbers)):
        raise AnswersError(f"{named}repeats {repeated:,} of its {len(numbers):,} images; expected one row for each")
    row_of = {int(number): row for row, number in enumerate(images.positions)}
    if others := [number for number in numbers.tolist() if number not in row_of]:
        found = some_of(list(map(str, sorted(others))))
        first = "; numbers of images begin at 0" if numbers.min() > 0 else ""
        raise AnswersError(f"{named}has {len(others):,} images that the data do not have: {found}{first}")
    positions = np.array([row_of[number] for number in numbers.tolist()], dtype=np.int64)
    order = np.argsort(positions)
    return positions[order], classes[order]


def _answers_in(path: Path, images: LabelledImages, outputs: str | None) -> Answers:
    """Return the answers in a file, with numbers of images in place of the names of their files.

    Raises `InputError` for the file of the data itself, under any name: its labels are the truth.
    """
    data = Path(images.source)
    comparable = path.is_file() and data.is_file() and path.stat().st_size == data.stat().st_size
    if comparable and hash_of_file(path) == hash_of_file(data):
        raise AnswersError(f"is the file of the data, {data}, so its labels are no predictions; name their own file")
    answers = read_answers(path, images.classes, outputs=outputs)
    named = answers.images
    if named is None or named.dtype.kind != "U":
        return answers
    return replace(answers, images=numbers_of_files(named.tolist(), images))


def _decided(values: np.ndarray) -> np.ndarray:
    """Return the class of the largest of the values, (N, classes), of each image, `UNDECIDED` for several."""
    tied = (values == values.max(axis=1, keepdims=True)).sum(axis=1) > 1
    if tied.all():
        raise AnswersError("has the same score for the leading classes of every image; write more digits, or labels")
    return np.where(tied, UNDECIDED, values.argmax(axis=1))


def _of_export(answers: Answers) -> np.ndarray:
    """Return the names of the rows, which must be exactly those of the export."""
    export, names = answers.export, answers.images
    assert export is not None
    if export.protocol != PROTOCOL:
        raise AnswersError(
            f"is of protocol {export.protocol}, this version works with protocol {PROTOCOL}; export again"
        )
    if names is None or names.dtype.kind != "S":
        raise AnswersError("has an export but no names of images; copy the array image of each shard")
    once = np.unique(names)
    if repeated := len(names) - len(once):
        raise AnswersError(f"repeats {repeated} of its {len(names)} images; expected one row for each image")
    if len(once) < export.images:
        raise AnswersError(
            f"lacks {export.images - len(once):,} of the {export.images:,} images of its export; predict all of them"
        )
    if len(once) > export.images:
        raise AnswersError(
            f"has {len(once) - export.images:,} images more than the {export.images:,} of its export; keep only those"
        )
    if hash_of_names(once) != export.names:
        raise AnswersError(
            f"has {len(once):,} images, as many as its export, but other ones; copy names and line export from one "
            "export"
        )
    return names


def _rows_of_clean(answers: Answers, images: LabelledImages) -> np.ndarray:
    """Return the row of each image of the data, (N,); raises `InputError` unless each has exactly one."""
    numbers = answers.images
    positions = images.positions.numpy()
    if numbers is None:
        if len(answers) != len(positions) if images.indices is None else len(answers) <= positions.max():
            raise AnswersError(
                f"has {len(answers):,} predictions without names of images, the data have {len(positions):,} images; "
                "expected one for each, in their order"
            )
        return positions
    if numbers.dtype.kind == "S":
        raise AnswersError("has names of exported images but no line export; copy it from manifest.json")
    counts = Counter(numbers.tolist())
    if repeated := sum(count - 1 for count in counts.values()):
        raise AnswersError(f"repeats {repeated:,} of its {len(numbers):,} images; expected one row for each image")
    if missing := len(set(positions.tolist()) - counts.keys()):
        raise AnswersError(f"lacks {missing:,} of the {len(positions):,} images of the data; predict all of them")
    if images.indices is None and len(numbers) > len(positions):
        more = sorted(counts.keys() - set(positions.tolist()))
        raise AnswersError(f"has {len(more):,} images that the data do not have: {some_of(list(map(str, more)))}")
    row_of = {number: row for row, number in enumerate(numbers.tolist())}
    return np.array([row_of[position] for position in positions.tolist()], dtype=np.int64)


def _of_clean(images: LabelledImages) -> np.ndarray:
    """Return the names of the clean images of the data."""
    size = 4 * int(np.prod(images.pixels.shape[1:]))
    parts = parts_of(len(images), size)
    return np.concatenate([names_of(as_stored(unit_range(images.pixels[part]).numpy(), FLOAT32)) for part in parts])


def _without_twins(names: np.ndarray, rows: np.ndarray, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted, unique names with their rows; raises `InputError` for equal images with different predictions."""
    once, first, which = np.unique(names, return_index=True, return_inverse=True)
    given = answers.values if answers.values.ndim == 1 else answers.values.argmax(axis=1)
    predicted = given[rows]
    if differing := int((predicted != predicted[first][which]).sum()):
        raise AnswersError(f"has other predictions for {differing} images than for images with the same pixels")
    return once, rows[first]
