"""What the panel of healthy retrains knows of each image: how many get it wrong, and what they answer in the mean."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import Field

from harness.errors import InputError, NotApplicableError, NotRecordedError
from harness.perturb import IDENTITY, PROTOCOL, in_words
from harness.store.files import read_regular, write_atomically
from harness.store.records import as_plain, read_record, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.perturb import Perturbation

SCHEMA = 2
MAX_BYTES = 1 << 30
"""Larger files are refused."""
NOT_ASKED = -1
LIKELIEST: Final = 3
"""Of how many classes the mean probability is kept, for pictures: all of 1,000 are 100 MB of 50,000 images."""
_NEXT = "`python -m harness calibrate` makes one"
_NOBODY: Final = 65_535
_STEPS: Final = 65_534
"""In which roots of mean probabilities are kept: the smallest that is told from 0 is 2e-10, and images are ordered by
them."""


@dataclass(frozen=True, eq=False)
class View:
    """What K healthy retrains say of the N images of a split under one perturbation.

    `wrong` is how many of them get each image wrong, (N,) int16. Of the mean of their probabilities, `of_label` is that
    of each label, (N,) float32, and `likeliest` are the classes with the greatest, first the greatest, (N, C) int32 of
    the at most `LIKELIEST` classes, with their `shares`, (N, C) float32. Where they were not asked, numbers are
    `NOT_ASKED` and probabilities NaN. `each` says which images each of them gets wrong, (K, N) bool, none where they
    were not asked; None but of images as they are.
    """

    wrong: np.ndarray
    of_label: np.ndarray
    likeliest: np.ndarray
    shares: np.ndarray
    each: np.ndarray | None = None

    @property
    def consensus(self) -> np.ndarray:
        """Return which images every one of them gets right, (N,) bool."""
        return np.asarray(self.wrong == 0)

    def take(self, positions: np.ndarray) -> View:
        """Return what they say of the images at these positions, (M,) int64."""
        wrong, of_label, likeliest, shares = (table[positions] for table in self._tables())
        return View(wrong, of_label, likeliest, shares, None if self.each is None else self.each[:, positions])

    def ordered(self, members: Sequence[int]) -> View:
        """Return what they say when they stand in this order, (K,), of where each stands now."""
        return replace(self, each=None if self.each is None else self.each[members])

    def over(self, old: View | None) -> View:
        """Return what they say by this view, and of images that it was not asked about by an old one of the same."""
        if old is None:
            return self
        asked, each = self.wrong != NOT_ASKED, None
        if self.each is not None and old.each is not None:
            each = np.where(asked, self.each, old.each)
        pairs = zip(self._tables(), old._tables(), strict=True)
        wrong, of_label, likeliest, shares = (
            np.where(asked if new.ndim == 1 else asked[:, None], new, kept) for new, kept in pairs
        )
        return View(wrong, of_label, likeliest, shares, each)

    def repeats(self, old: View) -> bool:
        """Return whether the same members get the same wrong as by an old view, where they were asked then."""
        asked = old.wrong != NOT_ASKED
        each = old.each is None or (self.each is not None and np.array_equal(self.each[:, asked], old.each[:, asked]))
        return each and np.array_equal(self.wrong[asked], old.wrong[asked])

    def _tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return self.wrong, self.of_label, self.likeliest, self.shares


@dataclass(frozen=True, eq=False)
class Known:
    """Of M images, which every healthy retrain gets right, (M,) bool, and their mean probability of the label, (M,)."""

    consensus: np.ndarray
    of_label: np.ndarray


@dataclass(frozen=True, eq=False)
class Knowledge:
    """What healthy retrains know of the images whose hash is `data_sha256`, by the `repr` of a perturbation.

    `members` are their hashes over the tensors. `besides` is one of them when it is held against what the others know.
    """

    data_sha256: str
    classes: tuple[str, ...]
    members: tuple[str, ...]
    views: Mapping[str, View]
    besides: str | None = None
    sha256: str = ""
    """Of its file."""

    @property
    def retrains(self) -> int:
        """Return how many retrains there are, without the one that is held against the others."""
        return len(self.members) - (self.besides is not None)

    def of_others(self, model_sha256: str) -> Knowledge:
        """Return what the others know when this network is one of the members, else all of it.

        A member knows by definition what all of them know, so that its loss would be none.
        """
        besides = model_sha256 if model_sha256 in self.members else None
        return replace(self, besides=besides)

    def expect(self, images: LabelledImages) -> None:
        """Raise `InputError` unless these are the images that it is about, all of them."""
        if images.sha256 != self.data_sha256:
            raise InputError(
                f"what the panel knows is about data with SHA-256 {self.data_sha256[:12]}…, these {len(images)} images "
                f"of {images.name} have {images.sha256[:12]}…; calibrate anew"
            )

    def view(self, perturbation: Perturbation = IDENTITY) -> View:
        """Return what they say under a perturbation; raises `NotRecordedError` where they were not asked."""
        if (view := self.views.get(repr(perturbation))) is None:
            raise NotRecordedError(
                f"what retrained reference models know of images {in_words(perturbation)} was not recorded; "
                "`python -m harness calibrate` does so for the rows of the gates file"
            )
        return view

    def about(self, answers: Sequence[Predictions]) -> list[Known]:
        """Return what they say of the images of each of a model's answers, some or all of the split, in that order.

        Of a member the others decide what all of them know: its own answer is among those counted. Raises
        `NotRecordedError` where they were not asked, and `NotApplicableError` where there are no others.
        """
        self.expect_others()
        return [self._about(each) for each in answers]

    def _about(self, answers: Predictions) -> Known:
        view, positions = self.view(answers.perturbation), answers.images.positions.numpy()
        wrong = view.wrong[positions]
        if missing := int((wrong == NOT_ASKED).sum()):
            raise NotRecordedError(
                f"what retrained reference models know of {missing} of {len(wrong)} images "
                f"{in_words(answers.perturbation)} was not recorded: they were asked about another sample"
            )
        return Known(wrong == (0 if self.besides is None else ~answers.correct), view.of_label[positions])

    def expect_others(self) -> None:
        """Raise `NotApplicableError` where there is no retrain but the one that is held against the others."""
        if not self.retrains:
            raise NotApplicableError("no healthy retrain is known but the model itself; with a second one there is")

    def write(self, path: Path) -> None:
        """Write it as JSON, tables packed, complete or not at all."""
        write_atomically(path, self.as_bytes())

    def as_bytes(self) -> bytes:
        """Return what `write` writes."""
        views = {name: _as_packed(view) for name, view in sorted(self.views.items())}
        images = len(next(iter(self.views.values())).wrong)
        content = _File(SCHEMA, PROTOCOL, self.data_sha256, images, self.classes, self.members, views)
        return (json.dumps(as_plain(content), indent=1) + "\n").encode()


@record
class _View:
    """A view in a file: tables of little-endian unsigned numbers of 16 bits, deflated, in base64.

    Of probabilities these are the roots, in 1 / `_STEPS`. `_NOBODY` stands where nobody was asked.
    """

    wrong: str
    of_label: str
    likeliest: str
    shares: str
    each: str = ""
    """Bits, a row for each member."""


@record
class _File:
    """What stands in a file."""

    schema: int
    protocol: int
    data_sha256: str
    n: Annotated[int, Field(ge=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    members: Annotated[tuple[str, ...], Field(min_length=1)]
    views: Annotated[dict[str, _View], Field(min_length=1)]


def read_knowledge(path: Path) -> Knowledge:
    """Read what `Knowledge.write` wrote; raises `InputError` for anything else, and for another protocol's."""
    try:
        content = read_regular(path, max_bytes=MAX_BYTES)
        plain = json.loads(content)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_NEXT}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not what a panel knows ({error}); {_NEXT}") from None
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise InputError(f"{path}: not what a panel knows, of schema {SCHEMA}, which this version reads; {_NEXT}")
    file = read_record(_File, plain, where=f"{path}")
    if file.protocol != PROTOCOL:
        raise InputError(f"{path}: recorded under protocol {file.protocol}, this is {PROTOCOL}; calibrate anew")
    views = {name: _view(packed, file, where=f"{path}: views: {name}") for name, packed in file.views.items()}
    sha256 = hashlib.sha256(content).hexdigest()
    return Knowledge(file.data_sha256, file.classes, file.members, views, sha256=sha256)


def _view(packed: _View, file: _File, *, where: str) -> View:
    several = (file.n, min(LIKELIEST, len(file.classes)))
    wrong = _unpacked(packed.wrong, (file.n,), where=where)
    likeliest = _unpacked(packed.likeliest, several, where=where)
    roots = _unpacked(packed.of_label, (file.n,), where=where), _unpacked(packed.shares, several, where=where)
    asked = wrong != _NOBODY
    if not (
        (wrong[asked] <= len(file.members)).all()
        and (likeliest[asked] < len(file.classes)).all()
        and all((root[asked] <= _STEPS).all() for root in roots)
    ):
        raise InputError(f"{where}: not what {len(file.members)} networks say of {file.n} images; {_NEXT}")
    of_label, shares = (np.square(root / _STEPS).astype(np.float32) for root in roots)
    of_label[~asked], shares[~asked], wrong[~asked], likeliest[~asked] = np.nan, np.nan, NOT_ASKED, NOT_ASKED
    each = _bits(packed.each, (len(file.members), file.n), where=where) if packed.each else None
    if each is not None and not np.array_equal(each.sum(axis=0), np.where(asked, wrong, 0)):
        raise InputError(f"{where}: what each member gets wrong is not what they do together; {_NEXT}")
    return View(wrong.astype(np.int16), of_label, likeliest, shares, each)


def _as_packed(view: View) -> _View:
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
    """Return the table; nothing larger than its shape says is unpacked."""
    content = _inflated(packed, 2 * math.prod(shape), where=where)
    return np.frombuffer(content, dtype="<u2").reshape(shape).astype(np.int32)


def _bits(packed: str, shape: tuple[int, int], *, where: str) -> np.ndarray:
    content = _inflated(packed, -(-math.prod(shape) // 8), where=where)
    return np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=math.prod(shape)).reshape(shape).astype(bool)


def _inflated(packed: str, size: int, *, where: str) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise InputError(f"{where}: cannot be unpacked ({error}); {_NEXT}") from None
    if len(content) != size or not unpacker.eof:
        raise InputError(f"{where}: a table of another size than {size} bytes; {_NEXT}")
    return content
