"""Panel predictions: errors and mean probabilities of the reference models for each image, and their file."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import numpy as np
from pydantic import Field

from harness.base.errors import InputError, NotApplicableError, NotRecordedError, PanelError
from harness.base.files import hash_of_file
from harness.base.records import as_plain, read_json, record, refusal_of_schema
from harness.data.images import weighted_sample
from harness.data.npz import array_in, opened
from harness.measures.panel.statistics import PanelStatistics, statistics_in, tables_of
from harness.measures.panel.threshold import PROVISIONAL
from harness.perturb import IDENTITY, PROTOCOL, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.panel.statistics import ModelStatistics
    from harness.perturb import Perturbation

SCHEMA = 4
NOT_ASKED = -1
LIKELIEST: Final = 3
"""Number of classes with a stored mean probability, for pictures; 1,000 classes would take 100 MB for 50,000 images."""
MANY: Final = 100
"""Number of classes up to which the mean probability of every class is stored."""
TINY: Final = 1e-9
"""Smallest mean probability; about the smallest that is stored."""
CORRECTED = range(3, 8)
"""Sizes of a panel where the consensus set of all but one differs much from that of all, and still predicts it."""
STRATA, PLANNED_ERRORS = 6, 0.01
"""Number of strata by votes, and the least share of errors that a sample is planned for.

Where no reference model errs, a sound model errs on 0.2% of the images, and a damaged one on more."""
_NEXT = "`stress-harness calibrate` makes one"
_NOBODY: Final = 65_535
_STEPS: Final = 65_534
"""Steps of the roots of mean probabilities. The smallest one above 0 is 2e-10, so images can be ordered by them."""
TABLES, _ROOTS = ("wrong", "of_label", "likeliest", "shares"), ("of_label", "shares")
"""Tables of each view, a row for each image. In a file, they are unsigned numbers of 16 bits.

`_NOBODY` marks images without predictions there, and probabilities are stored as roots, in units of 1 / `_STEPS`. A
further table, `each`, has bits, a row for each model. `mean` has roots, too, and `soft` logarithms."""


@dataclass(frozen=True, eq=False)
class PanelView:
    """Predictions of K reference models for the N images of a split under one perturbation.

    `wrong`, (N,) int16, counts the models that err on each image. `of_label`, (N,) float32, is the mean probability of
    each label. `likeliest`, (N, C) int32, are the at most `LIKELIEST` classes of the highest mean probability in
    descending order, and `shares`, (N, C) float32, their probabilities. Images without predictions have `NOT_ASKED` and
    NaN. `each`, (K, N) bool, has the errors of each model, False without predictions; it exists only for clean images.
    So do two others, for at most `MANY` classes: `mean`, (N, C) float32, has the mean probability of every class.
    `soft`, (K, C, C) float32, has logarithms of each model's mean probability of a class, the column, on images of
    another, the row. All other models predict these images correctly; without such images it is NaN.
    """

    wrong: np.ndarray
    of_label: np.ndarray
    likeliest: np.ndarray
    shares: np.ndarray
    each: np.ndarray | None = None
    mean: np.ndarray | None = None
    soft: np.ndarray | None = None

    def take(self, positions: np.ndarray) -> PanelView:
        """Return the view of the images at these positions, (M,) int64."""
        tables = {name: getattr(self, name)[positions] for name in TABLES}
        each = None if self.each is None else self.each[:, positions]
        return PanelView(
            **tables,
            each=each,
            mean=None if self.mean is None else self.mean[positions],
            soft=self.soft,
        )


class ConsensusSet(NamedTuple):
    """Images that every reference model predicts correctly, (M,) bool, and mean probabilities of labels, (M,)."""

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
    statistics: Mapping[str, PanelStatistics] = field(default_factory=dict)
    """Statistics of the models themselves, by kind."""

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

    def clean(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> PanelView:
        """Return the predictions of these images, by default without a perturbation; raises as `consensus_sets`."""
        if not self.reference_models:
            raise NotApplicableError(
                "the model itself is the only reference model; add a second one to the panel"
            )
        view = self.view(perturbation).take(images.positions.numpy())
        if missing := int((view.wrong == NOT_ASKED).sum()):
            advice = ". Calibrate a family that records them for all images, such as flips"
            raise NotRecordedError(
                f"there are no panel predictions of {missing} of {len(images)} images ({in_words(perturbation)}): "
                f"the panel was measured on another sample{advice if perturbation == IDENTITY else ''}"
            )
        return view

    def consensus_sets(self, predictions: Sequence[Predictions]) -> list[ConsensusSet]:
        """Return the consensus set among the images of each of a model's predictions, some or all of the split.

        For a model of the panel, only the others count. Raises `NotRecordedError` without panel predictions, and
        `NotApplicableError` without other models.
        """
        views = [self.clean(each.images, each.perturbation) for each in predictions]
        # A model's own error is among those counted.
        own = [0 if self.excluded is None else ~each.correct for each in predictions]
        return [
            ConsensusSet(view.wrong == each, view.of_label)
            for view, each in zip(views, own, strict=True)
        ]

    def mean_of_others(self, predictions: Predictions) -> np.ndarray:
        """Return the reference models' mean probabilities, (N, C) float64, for the images of clean predictions.

        For a model of the panel, its own are taken out. Of more than `MANY` classes, there are two columns: the label
        and all others. Raises `NotRecordedError` without them.
        """
        view, own = self.clean(predictions.images), predictions.probabilities.astype(np.float64)
        mean, count = view.mean, len(self.models)
        if len(self.classes) > MANY:
            of_label = own[np.arange(len(own)), predictions.labels]
            mean, own = (np.stack([each, 1 - each], axis=1) for each in (view.of_label, of_label))
        if mean is None:
            raise NotRecordedError(
                "the panel predictions have no probabilities of all classes; calibrate again"
            )
        others = (
            mean.astype(np.float64) if self.excluded is None else (count * mean - own) / (count - 1)
        )
        others = np.maximum(others, TINY)
        return np.asarray(others / others.sum(axis=1, keepdims=True))

    def statistics_of_others(
        self,
        own: ModelStatistics,
        *,
        clean: Callable[[], Predictions],  # noqa: ARG002  A recorder asks it.
    ) -> np.ndarray:
        """Return the statistics of the reference models, (models, S) float64, in the order of the model's own.

        For a model of the panel, only the others count. Raises `NotRecordedError` without statistics of this kind.
        Raises `NotApplicableError` for a model that has others, and for fewer than three reference models. `clean`
        predicts the images.
        """
        statistics = self.statistics.get(own.kind)
        if statistics is None:
            raise NotRecordedError(
                f"there are no statistics {own.kind!r} of the reference models; `stress-harness calibrate` records them"
            )
        others = [position for position, model in enumerate(self.models) if model != self.excluded]
        values = statistics.of(others, own.names)
        if len(others) < PROVISIONAL:
            raise NotApplicableError(
                f"{len(others)} reference models cannot show how much models differ; add more"
            )
        return values

    @property
    def has_votes(self) -> bool:
        """Return whether clean predictions can define strata."""
        return repr(IDENTITY) in self.views

    def weighted_sample(
        self,
        images: LabelledImages,
        size: int,
        *,
        clean: Callable[[], Predictions],  # noqa: ARG002  A recorder asks it.
        seed: int = 0,
    ) -> LabelledImages:
        """Return a sample of `size` images, with strata by the number of reference models that err on a clean image.

        It is the same for each model: models of the panel count, too. `clean` predicts all images; recording the panel
        needs that. Raises `NotRecordedError` as `clean` does.
        """
        wrong = replace(self, excluded=None).clean(images).wrong.astype(np.int64)
        others, count = wrong, len(self.models)
        if self.excluded is not None and (each := self.view().each) is not None:
            others = wrong - each[self.models.index(self.excluded), images.positions.numpy()]
        of, unseen = _stratum(wrong, count), _stratum(others, self.reference_models)
        sizes = np.maximum(np.bincount(of, minlength=STRATA), 1)
        rate = (np.bincount(of, wrong, STRATA) / sizes + 0.5) / (count + 1)
        return weighted_sample(
            images, size, of=of, unseen=unseen, deviations=planned_deviations(rate), seed=seed
        )

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        images = len(next(iter(self.views.values())).wrong)
        head = _Head(
            SCHEMA,
            PROTOCOL,
            self.data_sha256,
            images,
            self.classes,
            self.models,
            tuple(sorted(self.views)),
        )
        tables: dict[str, Any] = {
            _HEAD: np.frombuffer(json.dumps(as_plain(head)).encode(), dtype=np.uint8)
        }
        for number, name in enumerate(head.views):
            view = self.views[name]
            asked = view.wrong != NOT_ASKED
            for table in TABLES:
                values = getattr(view, table)
                values = np.rint(np.sqrt(values) * _STEPS) if table in _ROOTS else values
                stored = tables[f"{number}.{table}"] = np.full(values.shape, _NOBODY, dtype="<u2")
                stored[asked] = values[asked]
            if view.each is not None:
                tables[f"{number}.each"] = np.packbits(view.each)
            if view.mean is not None and view.soft is not None:
                tables[f"{number}.mean"] = np.rint(
                    np.sqrt(np.nan_to_num(view.mean)) * _STEPS
                ).astype("<u2")
                tables[f"{number}.soft"] = view.soft.astype("<f4")
        tables |= tables_of(self.statistics)
        content = io.BytesIO()
        np.savez_compressed(content, **tables)
        return content.getvalue()


def planned_deviations(errors: np.ndarray) -> np.ndarray:
    """Return the standard deviation of an error in strata with these shares of errors, `PLANNED_ERRORS` at least."""
    rate = np.maximum(errors, PLANNED_ERRORS)
    return np.asarray(np.sqrt(rate * (1 - rate)))


def _stratum(wrong: np.ndarray, models: int) -> np.ndarray:
    """Return strata by the number of models of so many that err: none, all, and the rest by quarters."""
    mixed = 1 + (wrong - 1) * (STRATA - 2) // max(models - 1, 1)
    return np.asarray(np.where(wrong == 0, 0, np.where(wrong == models, STRATA - 1, mixed)))


_HEAD = "panel_predictions"
"""The first table of a file, text in JSON."""


@record
class _Head:
    schema: int
    protocol: int
    data_sha256: str
    n: Annotated[int, Field(ge=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    views: Annotated[tuple[str, ...], Field(min_length=1)]


def read_panel_predictions(path: Path) -> PanelPredictions:
    """Read a file of panel predictions; raises `InputError` for any other file and for another protocol."""
    try:
        with opened(path) as (archive, members):
            if _HEAD not in members:
                raise PanelError(f"{path}: not panel predictions")
            text = array_in(archive, members[_HEAD]).tobytes()
            head = read_json(_Head, text, where=f"{path}", error=PanelError)
            if head.schema != SCHEMA:
                raise PanelError(refusal_of_schema(path, head.schema, expected=SCHEMA))
            if head.protocol != PROTOCOL:
                raise PanelError(
                    f"{path}: recorded under protocol {head.protocol}, this is {PROTOCOL}"
                )
            tables = {
                name: array_in(archive, each) for name, each in members.items() if name != _HEAD
            }
        views = {
            name: _view(tables, f"{number}.", head, where=f"{path}: {name}")
            for number, name in enumerate(head.views)
        }
        statistics = statistics_in(tables, models=len(head.models), path=path)
    except InputError as refused:
        raise PanelError(f"{refused}; {_NEXT}") from None
    return PanelPredictions(
        head.data_sha256,
        head.classes,
        head.models,
        views,
        sha256=str(hash_of_file(path)),
        statistics=statistics,
    )


def _view(tables: Mapping[str, np.ndarray], prefix: str, head: _Head, *, where: str) -> PanelView:
    found: dict[str, np.ndarray] = {}
    asked = np.empty(0, dtype=bool)
    for name, most in zip(
        TABLES, (len(head.models), _STEPS, len(head.classes) - 1, _STEPS), strict=True
    ):
        shape = (
            (head.n, min(LIKELIEST, len(head.classes)))
            if name in {"likeliest", "shares"}
            else (head.n,)
        )
        table = tables.get(f"{prefix}{name}")
        if table is None or table.dtype != np.dtype("<u2") or table.shape != shape:
            raise PanelError(f"{where}: expected a table {name} of 16-bit numbers, {shape}")
        asked = asked if found else table != _NOBODY
        if (table[asked] > most).any():
            raise PanelError(
                f"{where}: not predictions of {len(head.models)} models for {head.n} images"
            )
        values = (
            np.square(table / _STEPS).astype(np.float32)
            if name in _ROOTS
            else table.astype(np.int32)
        )
        values[~asked] = np.nan if name in _ROOTS else NOT_ASKED
        found[name] = values
    each = None
    if (bits := tables.get(f"{prefix}each")) is not None:
        size = len(head.models) * head.n
        if bits.dtype == np.uint8 and bits.shape == (-(-size // 8),):
            each = np.unpackbits(bits, count=size).reshape(len(head.models), head.n).astype(bool)
        if each is None or not np.array_equal(each.sum(axis=0), np.where(asked, found["wrong"], 0)):
            raise PanelError(f"{where}: the errors of each model do not add up to the counts")
    mean, soft = (tables.get(f"{prefix}{name}") for name in ("mean", "soft"))
    if mean is not None and soft is not None:
        count, classes = len(head.models), len(head.classes)
        known = (
            mean.dtype == np.dtype("<u2")
            and soft.dtype == np.dtype("<f4")
            and not np.isinf(soft).any()
        )
        if not known or mean.shape != (head.n, classes) or soft.shape != (count, classes, classes):
            raise PanelError(
                f"{where}: expected tables of mean probabilities of {classes} classes by {count} models"
            )
        mean = np.where(asked[:, None], np.square(mean / _STEPS), np.nan).astype(np.float32)
    return PanelView(
        **found | {"wrong": found["wrong"].astype(np.int16)}, each=each, mean=mean, soft=soft
    )
