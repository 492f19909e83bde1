"""Recorded predictions or scores as a predictor, which finds them by the hash of an image's pixels."""

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

    `names` are sorted, (N,), with a row for each in `values`. Without an `export`, pixels are float32.
    """

    identity: Identity
    provides: Provides
    names: np.ndarray
    values: np.ndarray
    export: Export | None = None

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """Return the recorded predictions for pixels (N, C, H, W), float32; raises `UnknownPixelsError` for others."""
        stored = FLOAT32 if self.export is None else self.export.pixels
        asked = names_of(as_stored(pixels, stored))
        rows = np.searchsorted(self.names, asked)
        known = self.names[np.minimum(rows, len(self.names) - 1)] == asked
        if known.all():
            return np.asarray(self.values[rows])
        if self.export is None:
            raise UnknownPixelsError(
                "has predictions of clean images only, but this check perturbs images. Export the images of the checks "
                "(`stress-harness export-inputs`), or remove such checks"
            )
        raise UnknownPixelsError(
            f"has no prediction for {int((~known).sum())} of {len(asked)} images of one request, which are not in its "
            "export. Export again with this version and the same data, checks and options"
        )

    def close(self) -> None:
        """Do nothing: the file is already in memory."""


def open_recorded(
    spec: str, options: NetworkOptions, images: LabelledImages | None
) -> RecordedAnswers:
    """Open the file of a SPEC `predictions:FILE` or `scores:FILE`; without images it only has an identity.

    Raises `InputError` for a file that lacks images, repeats them, or belongs to another export.
    """
    scheme, _, name = spec.partition(":")
    path, scored = Path(name), scheme == "scores"
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
    names, values = (
        _of_export(answers) if answers.export is not None else _of_clean(answers, images)
    )
    once, first, which = np.unique(names, return_index=True, return_inverse=True)
    predicted = values if values.ndim == 1 else values.argmax(axis=1)
    if differing := int((predicted != predicted[first][which]).sum()):
        what = "scores" if scored else "predictions"
        raise AnswersError(
            f"has other {what} for {differing} images than for images with the same pixels"
        )
    provides = Provides(answers.scores, live=False, classes=images.classes if answers.named else ())
    return RecordedAnswers(identity, provides, once, values[first], answers.export)


class RecordedSome(NamedTuple):
    """Recorded predictions of M clean images: their positions, (M,) int64, ascending, and classes, (M,) int64.

    A class is `UNDECIDED` if the leading classes tie, as rounded probabilities may. `probabilities` are (M, classes),
    None for a file of labels or of scores that are no probabilities.
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

    Raises `InputError` for predictions of exported images, of images outside the data, and of one image twice.
    """
    try:
        answers = _answers_in(path, images, outputs)
        classes = values = answers.values
        if values.ndim > 1:
            tied = (values == values.max(axis=1, keepdims=True)).sum(axis=1) > 1
            if tied.all():
                raise AnswersError(
                    "has the same score for the leading classes of every image; write more digits, or labels"
                )
            classes = np.where(tied, UNDECIDED, values.argmax(axis=1))
        numbers = _numbers(answers, images)
    except InputError as error:
        raise AnswersError(f"{path}: {error.message}", setting=error.setting) from error
    _, found, rows = np.intersect1d(images.positions.numpy(), numbers, return_indices=True)
    order = np.argsort(found)
    in_file = RecordedSome(numbers, classes, _probabilities(answers)).take(rows[order])
    return in_file._replace(positions=found[order])


def _probabilities(answers: AnswerTable) -> np.ndarray | None:
    if answers.scores == "logits":
        return softmax(answers.values)
    if answers.scores == "probabilities" and are_probabilities(answers.values):
        return answers.values
    return None


def _answers_in(path: Path, images: LabelledImages, outputs: str | None) -> AnswerTable:
    """Return the answers in a file, with numbers of images in place of the names of their files.

    Raises `InputError` for the file of the data itself, under any name: its labels are the truth.
    """
    data = Path(images.source)
    same = path.is_file() and data.is_file() and path.stat().st_size == data.stat().st_size
    if same and hash_of_file(path) == hash_of_file(data):
        raise AnswersError(
            f"is the file of the data, {data}, so its labels are no predictions; name their own file"
        )
    return _with_numbers(read_answers(path, images.classes, outputs=outputs), images)


def _with_numbers(answers: AnswerTable, images: LabelledImages) -> AnswerTable:
    """Return the answers with numbers of images in place of the names of their files."""
    if answers.images is None or answers.images.dtype.kind != "U":
        return answers
    return replace(answers, images=_numbers_of_files(answers.images.tolist(), images))


def _of_export(answers: AnswerTable) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the rows, which must be exactly those of the export, and their predictions."""
    export, names = answers.export, answers.images
    assert export is not None
    if export.protocol != PROTOCOL:
        raise AnswersError(
            f"is of protocol {export.protocol}, this version works with protocol {PROTOCOL}; export again"
        )
    if names is None or names.dtype.kind != "S":
        raise AnswersError(
            "has an export but no names of images; copy the array image of each shard"
        )
    once = np.unique(names)
    if (missing := export.images - len(once)) > 0:
        raise AnswersError(
            f"lacks {missing:,} of the {export.images:,} images of its export; predict all of them"
        )
    if len(names) > export.images or hash_of_names(once) != export.names:
        raise AnswersError(
            f"has {len(names):,} rows of {len(once):,} images, expected one row for each of the {export.images:,} "
            "images of its export. Copy names and the line export from one export"
        )
    return names, answers.values


def _of_clean(answers: AnswerTable, images: LabelledImages) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the data's clean images, and their predictions; raises `InputError` for images without."""
    row_of = {number: row for row, number in enumerate(_numbers(answers, images).tolist())}
    rows = [row_of.get(position, -1) for position in images.positions.tolist()]
    if missing := rows.count(-1):
        raise AnswersError(
            f"lacks {missing:,} of the {len(rows):,} images of the data; predict all of them"
        )
    parts = parts_of(len(images), 4 * int(np.prod(images.pixels.shape[1:])))
    names = [
        names_of(as_stored(unit_range(images.pixels[part]).numpy(), FLOAT32)) for part in parts
    ]
    return np.concatenate(names), answers.values[np.array(rows, dtype=np.int64)]


def _numbers(answers: AnswerTable, images: LabelledImages) -> np.ndarray:
    """Return the number in the full split of each row's image, (N,); raises `InputError` unless it has one, once."""
    numbers, positions, count = answers.images, images.positions.numpy(), len(answers.values)
    if numbers is None:
        if count != len(positions) if images.indices is None else count <= positions.max():
            raise AnswersError(
                f"has {count:,} predictions without names or numbers of images, the data have {len(positions):,} "
                "images; expected one for each, in their order"
            )
        return np.arange(count)
    if numbers.dtype.kind == "S":
        raise AnswersError(
            "has names of exported images but no line export, for clean images. Copy the line from manifest.json, or "
            "write numbers of images in the data, from 0"
        )
    if repeated := len(numbers) - len(np.unique(numbers)):
        raise AnswersError(
            f"repeats {repeated:,} of its {len(numbers):,} images; expected one row for each image"
        )
    if images.indices is None and len(others := np.setdiff1d(numbers, positions)):
        first = "; numbers of images begin at 0" if numbers.min() > 0 else ""
        found = some_of(list(map(str, others.tolist())))
        raise AnswersError(f"has {len(others):,} images that the data do not have: {found}{first}")
    return numbers


def _numbers_of_files(names: Sequence[str], images: LabelledImages) -> np.ndarray:
    """Return the number in the data of each image whose file is named, (N,) int64.

    A file is the one with the longest common end of its path; folders above may differ. Raises `InputError` for data
    without files, and for a name of no file or of several.
    """
    if images.origin is None:
        raise AnswersError(
            f"names images as {printable(names[0][:40])!r}, and the data have no files; expected their numbers, from 0"
        )
    ends: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number in images.positions.tolist():
        for end in _ends(images.origin.where(number)):
            ends[end].append(number)
    example = "/".join(_ends(images.origin.where(int(images.positions[0])))[0][1::-1])
    found = [next((ends[end] for end in _ends(name) if end in ends), []) for name in names]
    for count, what, advice in (
        (0, "no files", f"expected names such as {printable(example)!r}, or numbers from 0"),
        (2, "those of several files", f"write more of their paths, such as {printable(example)!r}"),
    ):
        if some := [
            name
            for name, numbers in zip(names, found, strict=True)
            if min(2, len(numbers)) == count
        ]:
            raise AnswersError(
                f"{len(some):,} of {len(names):,} names in image are {what} of the data: {printable(some_of(some))}; "
                f"{advice}"
            )
    return np.array(found, dtype=np.int64)[:, 0]


def _ends(path: str) -> list[tuple[str, ...]]:
    """Return the ends of a path, the longest one first, each with its last part first."""
    parts = [part for part in _SEPARATORS.split(path.strip()) if part not in {"", "."}][::-1]
    return [tuple(parts[:length]) for length in range(len(parts), 0, -1)]
