"""Panel predictions: errors and mean probabilities of the reference models for each image, and their file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import numpy as np
from pydantic import Field

from harness.base.errors import NotApplicableError, NotRecordedError, PanelError
from harness.base.files import read_regular
from harness.base.records import as_plain, read_record, record, refusal_of_schema
from harness.perturb import IDENTITY, PROTOCOL, in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.perturb import Perturbation

T = TypeVar("T")
SCHEMA = 3
MAX_BYTES = 1 << 30
"""Size of the largest file."""
NOT_ASKED = -1
LIKELIEST: Final = 3
"""Number of classes with a stored mean probability, for pictures; 1,000 classes would take 100 MB for 50,000 images."""
CORRECTED = range(3, 8)
"""Sizes of a panel where the consensus set of all but one differs much from that of all, and still predicts it."""
_NEXT = "`stress-harness calibrate` makes one"
_NOBODY: Final = 65_535
_STEPS: Final = 65_534
"""Steps of the roots of mean probabilities. The smallest one above 0 is 2e-10, so images can be ordered by them."""
TABLES = ("wrong", "of_label", "likeliest", "shares")
"""Tables of a view, a row for each image."""


@dataclass(frozen=True, eq=False)
class PanelView:
    """Predictions of K reference models for the N images of a split under one perturbation.

    `wrong`, (N,) int16, counts the models that err on each image. `of_label`, (N,) float32, is the mean probability of
    each label. `likeliest`, (N, C) int32, are the at most `LIKELIEST` classes of the highest mean probability in
    descending order, and `shares`, (N, C) float32, their probabilities. Images without predictions have `NOT_ASKED` and
    NaN. `each`, (K, N) bool, has the errors of each model, False without predictions; it exists only for clean images.
    """

    wrong: np.ndarray
    of_label: np.ndarray
    likeliest: np.ndarray
    shares: np.ndarray
    each: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> PanelView:
        """Return the view of the images at these positions, (M,) int64."""
        tables = {name: getattr(self, name)[positions] for name in TABLES}
        return PanelView(**tables, each=None if self.each is None else self.each[:, positions])


@dataclass(frozen=True, eq=False)
class ConsensusSet:
    """Consensus set among M images: those that every reference model predicts correctly.

    `consensus`, (M,) bool, marks them. `of_label`, (M,) float32, is the mean probability of each label.
    """

    consensus: np.ndarray
    of_label: np.ndarray


@dataclass(frozen=True, eq=False)
class PanelPredictions:
    """Predictions of a reference panel for the images with the hash `data_sha256`, by the `repr` of a perturbation.

    `models` are the models' hashes over their tensors. `excluded` is a model of the panel that does not count among the
    `reference_models`. `sha256` is that of the file.

    `correction` is the factor from the excluded model's errors on the others' consensus set to those on a set of all K.
    It is (K - 1) / K. Most images are nearly sure to be right or wrong. One more model then errs on the consensus set
    in inverse proportion to the size of the panel. It is 1 for any other model, and for panels of other sizes.
    `benchmarks.few` measures it.
    """

    data_sha256: str
    classes: tuple[str, ...]
    models: tuple[str, ...]
    views: Mapping[str, PanelView]
    excluded: str | None = None
    sha256: str = ""

    @property
    def reference_models(self) -> int:
        return len(self.models) - (self.excluded is not None)

    @property
    def correction(self) -> float:
        count = len(self.models)
        return (count - 1) / count if self.excluded is not None and count in CORRECTED else 1.0

    def without(self, model_sha256: str) -> PanelPredictions:
        """Return the predictions of the other models if this model is in the panel, else all of them.

        A reference model makes no errors on a consensus set that includes its own predictions.
        """
        return replace(self, excluded=model_sha256 if model_sha256 in self.models else None)

    def expect(self, images: LabelledImages) -> None:
        """Raise `InputError` unless these are the images of the panel's predictions, all of them."""
        if images.sha256 != self.data_sha256:
            raise PanelError(
                f"the panel predictions are for data with SHA-256 {self.data_sha256[:12]}…, these {len(images)} images "
                f"of {images.name} have {images.sha256[:12]}…; calibrate again"
            )

    def view(self, perturbation: Perturbation = IDENTITY) -> PanelView:
        """Return the predictions under a perturbation; raises `NotRecordedError` without any."""
        if (view := self.views.get(repr(perturbation))) is None:
            raise NotRecordedError(
                f"there are no panel predictions of these images ({in_words(perturbation)}); "
                "`stress-harness calibrate` records them for the rows of the checks file"
            )
        return view

    def clean(self, images: LabelledImages) -> PanelView:
        """Return the predictions of these images without a perturbation; raises as `consensus_sets` does."""
        return self._asked(images, IDENTITY)

    def _asked(self, images: LabelledImages, perturbation: Perturbation) -> PanelView:
        if not self.reference_models:
            raise NotApplicableError("the model itself is the only reference model; add a second one to the panel")
        view, positions = self.view(perturbation), images.positions.numpy()
        if missing := int((view.wrong[positions] == NOT_ASKED).sum()):
            raise NotRecordedError(
                f"there are no panel predictions of {missing} of {len(positions)} images ({in_words(perturbation)}): "
                "the panel was measured on another sample; calibrate a family that records them for all images, such "
                "as flips"
            )
        return view.take(positions)

    def consensus_sets(self, predictions: Sequence[Predictions]) -> list[ConsensusSet]:
        """Return the consensus set among the images of each of a model's predictions, some or all of the split.

        For a model of the panel, only the others count. Raises `NotRecordedError` without panel predictions, and
        `NotApplicableError` without other models.
        """
        views = [self._asked(each.images, each.perturbation) for each in predictions]
        # A model's own error is among those counted.
        own = [0 if self.excluded is None else ~each.correct for each in predictions]
        return [ConsensusSet(view.wrong == each, view.of_label) for view, each in zip(views, own, strict=True)]

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        views = {name: _as_packed(view) for name, view in sorted(self.views.items())}
        images = len(next(iter(self.views.values())).wrong)
        content = _File(PROTOCOL, self.data_sha256, images, self.classes, self.models, views)
        return (json.dumps({"schema": SCHEMA, **as_plain(content)}, indent=1) + "\n").encode()


@record
class _View:
    """A view in a file: tables of little-endian unsigned numbers of 16 bits, deflated, in base64.

    Probabilities are stored as roots, in units of 1 / `_STEPS`. `_NOBODY` marks images without predictions.
    """

    wrong: str
    of_label: str
    likeliest: str
    shares: str
    each: str = ""
    """Bits, a row for each model."""


@record
class _File:
    """Content of a file."""

    protocol: int
    data_sha256: str
    n: Annotated[int, Field(ge=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    views: Annotated[dict[str, _View], Field(min_length=1)]


def read_file(kind: type[T], path: Path, *, what: str, schema: int, max_bytes: int, advice: str) -> tuple[T, bytes]:
    """Return the record in a file of JSON with this `schema`, and the file's content.

    Raises `InputError`, with the `advice`, for a file that is not `what` it should be, and for an invalid record.
    """
    try:
        content = read_regular(path, max_bytes=max_bytes)
        plain = json.loads(content)
        if not isinstance(plain, dict):
            raise PanelError(f"{path}: not {what}, but {type(plain).__name__}")
        if (found := plain.pop("schema", None)) != schema:
            raise PanelError(refusal_of_schema(path, found, expected=schema))
        return read_record(kind, plain, where=f"{path}", error=PanelError), content
    except OSError as unreadable:
        message = f"{path}: cannot be read ({unreadable.strerror})"
    except (ValueError, RecursionError) as invalid:
        message = f"{path}: not {what} ({invalid})"
    except PanelError as refused:
        message = f"{refused}"
    raise PanelError(f"{message}; {advice}")


def read_panel_predictions(path: Path) -> PanelPredictions:
    """Read a file of panel predictions; raises `InputError` for any other file and for another protocol."""
    file, content = read_file(_File, path, what="panel predictions", schema=SCHEMA, max_bytes=MAX_BYTES, advice=_NEXT)
    if file.protocol != PROTOCOL:
        raise PanelError(f"{path}: recorded under protocol {file.protocol}, this is {PROTOCOL}; calibrate again")
    views = {name: _view(packed, file, where=f"{path}: views: {name}") for name, packed in file.views.items()}
    sha256 = hashlib.sha256(content).hexdigest()
    return PanelPredictions(file.data_sha256, file.classes, file.models, views, sha256=sha256)


def _view(packed: _View, file: _File, *, where: str) -> PanelView:
    several = (file.n, min(LIKELIEST, len(file.classes)))
    wrong = _unpacked(packed.wrong, (file.n,), where=where)
    likeliest = _unpacked(packed.likeliest, several, where=where)
    roots = _unpacked(packed.of_label, (file.n,), where=where), _unpacked(packed.shares, several, where=where)
    asked = wrong != _NOBODY
    if not (
        (wrong[asked] <= len(file.models)).all()
        and (likeliest[asked] < len(file.classes)).all()
        and all((root[asked] <= _STEPS).all() for root in roots)
    ):
        raise PanelError(f"{where}: not predictions of {len(file.models)} models for {file.n} images; {_NEXT}")
    of_label, shares = (np.square(root / _STEPS).astype(np.float32) for root in roots)
    of_label[~asked], shares[~asked], wrong[~asked], likeliest[~asked] = np.nan, np.nan, NOT_ASKED, NOT_ASKED
    each = None
    if packed.each:
        shape = len(file.models), file.n
        bits = np.frombuffer(_inflated(packed.each, -(-math.prod(shape) // 8), where=where), dtype=np.uint8)
        each = np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)
    if each is not None and not np.array_equal(each.sum(axis=0), np.where(asked, wrong, 0)):
        raise PanelError(f"{where}: the errors of each model do not add up to the counts; {_NEXT}")
    return PanelView(wrong.astype(np.int16), of_label, likeliest, shares, each)


def _as_packed(view: PanelView) -> _View:
    asked = view.wrong != NOT_ASKED

    def packed(table: np.ndarray) -> str:
        numbers = np.full(table.shape, _NOBODY, dtype="<u2")
        numbers[asked] = table[asked]
        return base64.b64encode(zlib.compress(numbers.tobytes(), 9)).decode()

    def roots(probabilities: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint(np.sqrt(probabilities) * _STEPS))

    each = "" if view.each is None else base64.b64encode(zlib.compress(np.packbits(view.each).tobytes(), 9)).decode()
    return _View(
        packed(view.wrong), packed(roots(view.of_label)), packed(view.likeliest), packed(roots(view.shares)), each
    )


def _unpacked(packed: str, shape: tuple[int, ...], *, where: str) -> np.ndarray:
    """Return a table, without unpacking more bytes than its shape needs."""
    content = _inflated(packed, 2 * math.prod(shape), where=where)
    return np.frombuffer(content, dtype="<u2").reshape(shape).astype(np.int32)


def _inflated(packed: str, size: int, *, where: str) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise PanelError(f"{where}: cannot be unpacked ({error}); {_NEXT}") from None
    if len(content) != size or not unpacker.eof:
        raise PanelError(f"{where}: a table of another size than {size} bytes; {_NEXT}")
    return content
