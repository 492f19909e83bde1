"""What the panel of healthy retrains knows of each image: how many get it wrong, and their mean answer."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from harness.errors import InputError, NotApplicableError
from harness.perturb import IDENTITY, PROTOCOL, in_words
from harness.store.files import read_regular, write_atomically
from harness.store.records import as_plain, read_record, record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.perturb import Perturbation

SCHEMA = 1
MAX_BYTES = 1 << 30
"""Larger files are refused."""
NOT_ASKED = -1
_NEXT = "`python -m harness calibrate` makes one"
_FINE: Final = 65_534
_COARSE: Final = 254
"""Steps in which roots of mean probabilities are kept, at rest and under perturbations: the former order images by
them, and the smallest is 2e-10; the latter are for pictures."""


@dataclass(frozen=True, eq=False)
class View:
    """What K healthy retrains say of the N images of a split under one perturbation.

    `wrong` is how many of them get each image wrong, (N,) int16, `NOT_ASKED` where they were not asked; `mean` is the
    mean of their probabilities of each class, (N, classes) float32, NaN where they were not asked. `each` says which
    images each of them gets wrong, (K, N) bool, none where they were not asked; None but of images as they are.
    """

    wrong: np.ndarray
    mean: np.ndarray
    each: np.ndarray | None = None

    @property
    def consensus(self) -> np.ndarray:
        """Return which images every one of them gets right, (N,) bool."""
        return np.asarray(self.wrong == 0)

    def over(self, old: View | None) -> View:
        """Return what they say by this view, and of images that it was not asked about by an old one of the same."""
        if old is None:
            return self
        asked = self.wrong != NOT_ASKED
        each = None
        if self.each is not None and old.each is not None:
            each = np.where(asked, self.each, old.each)
        return View(np.where(asked, self.wrong, old.wrong), np.where(asked[:, None], self.mean, old.mean), each)


@dataclass(frozen=True, eq=False)
class Known:
    """Of M images, which every healthy retrain gets right, (M,) bool, and their mean probabilities, (M, classes)."""

    consensus: np.ndarray
    mean: np.ndarray


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
    """Of the file that it was read from."""

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
        """Return what they say under a perturbation; raises `NotApplicableError` where they were not asked."""
        if (view := self.views.get(repr(perturbation))) is None:
            raise NotApplicableError(
                f"what retrained reference models know of images {in_words(perturbation)} was not recorded; "
                "`python -m harness calibrate` does so for the rows of the gates file"
            )
        return view

    def about(self, answers: Sequence[Predictions]) -> list[Known]:
        """Return what they say of the images of each of a model's answers, some or all of the split, in that order.

        Of a member the others decide what all of them know: its own answer is among those counted. Raises
        `NotApplicableError` where they were not asked, and where there are no others.
        """
        self.expect_others()
        return [self._about(each) for each in answers]

    def _about(self, answers: Predictions) -> Known:
        view, positions = self.view(answers.perturbation), answers.images.positions.numpy()
        wrong = view.wrong[positions]
        if missing := int((wrong == NOT_ASKED).sum()):
            raise NotApplicableError(
                f"what retrained reference models know of {missing} of {len(wrong)} images "
                f"{in_words(answers.perturbation)} was not recorded: they were asked about another sample"
            )
        return Known(wrong == (0 if self.besides is None else ~answers.correct), view.mean[positions])

    def expect_others(self) -> None:
        """Raise `NotApplicableError` where there is no retrain but the one that is held against the others."""
        if not self.retrains:
            raise NotApplicableError("no healthy retrain is known but the model itself; with a second one there is")

    def write(self, path: Path) -> None:
        """Write it as JSON, tables packed, complete or not at all."""
        write_atomically(path, self.as_bytes())

    def as_bytes(self) -> bytes:
        """Return what `write` writes."""
        views = {
            name: _as_packed(view, _FINE if name == repr(IDENTITY) else _COARSE)
            for name, view in sorted(self.views.items())
        }
        images = len(next(iter(self.views.values())).wrong)
        content = _File(SCHEMA, PROTOCOL, self.data_sha256, images, self.classes, self.members, views)
        return (json.dumps(as_plain(content), indent=1) + "\n").encode()


@record
class _View:
    """A view in a file: tables of little-endian unsigned numbers, deflated, in base64.

    `wrong` counts, in 16 bits; `roots` are those of mean probabilities, in 1 / `steps`, in as many bytes as these need.
    The largest number is what was not asked.
    """

    wrong: str
    roots: str
    steps: Literal[254, 65534]
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
    views = {}
    for name, packed in file.views.items():
        where = f"{path}: views: {name}"
        wrong = _unpacked(packed.wrong, (file.n,), _FINE, where=where)
        roots = _unpacked(packed.roots, (file.n, len(file.classes)), packed.steps, where=where)
        asked = wrong <= _FINE
        if (wrong[asked] > len(file.members)).any() or (roots[asked] > packed.steps).any():
            raise InputError(f"{where}: not what {len(file.members)} networks say of {file.n} images; {_NEXT}")
        mean = np.where(asked[:, None], np.square(roots / packed.steps), np.nan).astype(np.float32)
        each = _bits(packed.each, (len(file.members), file.n), where=where) if packed.each else None
        if each is not None and not np.array_equal(each.sum(axis=0), np.where(asked, wrong, 0)):
            raise InputError(f"{where}: what each member gets wrong is not what they do together; {_NEXT}")
        views[name] = View(np.where(asked, wrong, NOT_ASKED).astype(np.int16), mean, each)
    sha256 = hashlib.sha256(content).hexdigest()
    return Knowledge(file.data_sha256, file.classes, file.members, views, sha256=sha256)


def _as_packed(view: View, steps: Literal[254, 65534]) -> _View:
    asked = view.wrong != NOT_ASKED
    wrong = np.where(asked, view.wrong, _FINE + 1)
    roots = np.where(asked[:, None], np.rint(np.sqrt(np.where(asked[:, None], view.mean, 0)) * steps), steps + 1)
    bits = "" if view.each is None else base64.b64encode(zlib.compress(np.packbits(view.each).tobytes(), 9)).decode()
    return _View(_packed(wrong, _FINE), _packed(roots, steps), steps, bits)


def _packed(table: np.ndarray, steps: int) -> str:
    return base64.b64encode(zlib.compress(table.astype(_kind(steps)).tobytes(), 9)).decode()


def _kind(steps: int) -> np.dtype[Any]:
    return np.dtype("<u1" if steps == _COARSE else "<u2")


def _unpacked(packed: str, shape: tuple[int, ...], steps: int, *, where: str) -> np.ndarray:
    """Return the table; nothing larger than its shape says is unpacked."""
    content = _inflated(packed, _kind(steps).itemsize * math.prod(shape), where=where)
    return np.frombuffer(content, dtype=_kind(steps)).reshape(shape).astype(np.int32)


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
