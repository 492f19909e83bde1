"""Panel predictions of the reference models for each image, and their file.

They are the errors and the mean probabilities of the models.
"""

from __future__ import annotations

import io
import json
import math
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
"""Number of classes with a stored mean probability, for pictures.

A probability for each of 1,000 classes would take 100 MB for 50,000 images.
"""
MANY: Final = 100
"""Number of classes up to which the mean probability of every class is stored."""
TINY: Final = 1e-9
"""Smallest mean probability; about the smallest that is stored."""
CORRECTED = range(3, 8)
"""Sizes of a panel whose consensus set without one model differs much from that of all.

In these sizes, the former still predicts the latter.
"""
STRATA = 6
"""Number of strata by votes."""
PLANNED_ERRORS = 0.01
"""Least share of errors that a sample is planned for.

Where no reference model errs, a healthy model errs on 0.2% of the images, and a damaged one on
more.
"""
_NEXT = "`stress-harness calibrate` makes one"
_NOBODY: Final = 65_535
"""Mark, in the tables of a file, of an image without predictions."""
_STEPS: Final = 65_534
"""Steps of the roots of mean probabilities.

The smallest one above 0 is 2e-10, so images can be ordered by them.
"""
TABLES = ("wrong", "of_label", "likeliest", "shares")
"""Tables of each view, with a row for each image.

In a file, they are unsigned numbers of 16 bits, and `_NOBODY` marks images without predictions.
Three further tables are not in every view: `each` has bits, a row for each model; `mean` has roots,
and `soft` logarithms.
"""
_ROOTS = ("of_label", "shares")
"""Tables of probabilities, which a file has as roots, in units of 1 / `_STEPS`."""


@dataclass(frozen=True, eq=False)
class PanelView:
    """Predictions of K reference models for the N images of a split under one perturbation.

    Images without predictions have `NOT_ASKED` in tables of numbers, and NaN in those of
    probabilities.

    Attributes:
        wrong: The number of models that err on each image, (N,) int16.
        of_label: The mean probability of each image's label, (N,) float32.
        likeliest: The classes with the highest mean probability in descending order, at most
            `LIKELIEST`, (N, C) int32.
        shares: The mean probabilities of these classes, (N, C) float32.
        each: The errors of each model, (K, N) bool, False without predictions; for clean images
            alone.
        mean: The mean probability of every class, (N, C) float32; for clean images of at most
            `MANY` classes.
        soft: For the same images, the logarithm of each model's mean probability of a class
            (column) on images of another (row), (K, C, C) float32. They are the images that all
            other models predict correctly; without such images it is NaN.
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
        each = None
        if self.each is not None:
            each = self.each[:, positions]
        mean = None
        if self.mean is not None:
            mean = self.mean[positions]
        return PanelView(**tables, each=each, mean=mean, soft=self.soft)


class ConsensusSet(NamedTuple):
    """The images that every reference model predicts correctly, among M images.

    `consensus`, (M,) bool, marks them. `of_label`, (M,), has the mean probability of each label.
    """

    consensus: np.ndarray
    of_label: np.ndarray


@dataclass(frozen=True, eq=False)
class PanelPredictions:
    """Predictions of a reference panel for the images of a split.

    Attributes:
        data_sha256: The hash of the images.
        classes: The names of the classes.
        models: The models' hashes over their tensors.
        views: The predictions by the `repr` of a perturbation.
        excluded: A model of the panel that does not count among the `reference_models`.
        sha256: The hash of the file.
        statistics: Statistics of the models themselves, by kind.
    """

    data_sha256: str
    classes: tuple[str, ...]
    models: tuple[str, ...]
    views: Mapping[str, PanelView]
    excluded: str | None = None
    sha256: str = ""
    statistics: Mapping[str, PanelStatistics] = field(default_factory=dict)

    @property
    def reference_models(self) -> int:
        if self.excluded is None:
            return len(self.models)
        return len(self.models) - 1

    @property
    def correction(self) -> float:
        """Return the factor from the excluded model's errors to those on a set of all K models.

        The excluded model is judged by the consensus set of the others, which is larger. The factor
        is 1 for any other model, and for panels whose size is not among `CORRECTED`.
        """
        # Most images are nearly sure to be right or wrong, so one more model errs on the consensus
        # set in inverse proportion to the size of the panel. `benchmarks.few` measures it.
        count = len(self.models)
        if self.excluded is None or count not in CORRECTED:
            return 1.0
        return (count - 1) / count

    def without(self, model_sha256: str) -> PanelPredictions:
        """Return the predictions of the other models if this model is in the panel, else all.

        A reference model makes no errors on a consensus set that includes its own predictions.
        """
        excluded = None
        if model_sha256 in self.models:
            excluded = model_sha256
        return replace(self, excluded=excluded)

    def expect(self, images: LabelledImages) -> None:
        """Raise `InputError` unless these are all of the images of the panel predictions."""
        if images.sha256 != self.data_sha256:
            raise PanelError(
                f"the panel predictions are for data with SHA-256 {self.data_sha256[:12]}…, these "
                f"{len(images)} images of {images.name} have {images.sha256[:12]}…; calibrate again"
            )

    def view(self, perturbation: Perturbation = IDENTITY) -> PanelView:
        """Return the predictions under a perturbation; raises `NotRecordedError` without any."""
        view = self.views.get(repr(perturbation))
        if view is None:
            raise NotRecordedError(
                f"there are no panel predictions of these images ({in_words(perturbation)}); "
                "`stress-harness calibrate` records them for the rows of the checks file"
            )
        return view

    def clean(self, images: LabelledImages, perturbation: Perturbation = IDENTITY) -> PanelView:
        """Return the predictions of these images, by default without a perturbation.

        Raises:
            NotRecordedError: Some images have no panel predictions.
            NotApplicableError: The model that is measured is the only reference model.
        """
        if not self.reference_models:
            raise NotApplicableError(
                "the model itself is the only reference model; add a second one to the panel"
            )
        view = self.view(perturbation).take(images.positions.numpy())
        missing = int((view.wrong == NOT_ASKED).sum())
        if missing:
            message = (
                f"there are no panel predictions of {missing} of {len(images)} images "
                f"({in_words(perturbation)}): the panel was measured on another sample"
            )
            if perturbation == IDENTITY:
                message += ". Calibrate a family that records them for all images, such as flips"
            raise NotRecordedError(message)
        return view

    def consensus_sets(self, predictions: Sequence[Predictions]) -> list[ConsensusSet]:
        """Return the consensus set among the images of each of a model's predictions.

        The images are some or all of the split. For a model of the panel, only the others count.

        Raises:
            NotRecordedError: Some images have no panel predictions.
            NotApplicableError: There are no other models.
        """
        views = [self.clean(of_model.images, of_model.perturbation) for of_model in predictions]
        sets = []
        for view, of_model in zip(views, predictions, strict=True):
            own_errors: np.ndarray | int = 0
            if self.excluded is not None:
                # A model's own error is among those counted.
                own_errors = ~of_model.correct
            sets.append(ConsensusSet(view.wrong == own_errors, view.of_label))
        return sets

    def mean_of_others(self, predictions: Predictions) -> np.ndarray:
        """Return the reference models' mean probabilities for the images of clean predictions.

        For a model of the panel, its own are taken out.

        Returns:
            The probabilities, (N, C) float64, each row with the sum 1. Of more than `MANY` classes,
            there are two columns: the label and all others.

        Raises:
            NotRecordedError: The panel predictions lack them.
        """
        view = self.clean(predictions.images)
        mean = view.mean
        own = predictions.probabilities.astype(np.float64)
        if len(self.classes) > MANY:
            mean = _label_and_others(view.of_label)
            own = _label_and_others(own[np.arange(len(own)), predictions.labels])
        if mean is None:
            raise NotRecordedError(
                "the panel predictions have no probabilities of all classes; calibrate again"
            )

        others = mean.astype(np.float64)
        if self.excluded is not None:
            count = len(self.models)
            others = (count * mean - own) / (count - 1)
        others = np.maximum(others, TINY)
        return np.asarray(others / others.sum(axis=1, keepdims=True))

    def statistics_of_others(
        self,
        own: ModelStatistics,
        *,
        clean: Callable[[], Predictions],  # noqa: ARG002  A recorder asks it.
    ) -> np.ndarray:
        """Return the statistics of the reference models, (models, S) float64, in the own order.

        For a model of the panel, only the others count.

        Args:
            own: The statistics of the model that is compared, with S names.
            clean: Predicts the images.

        Raises:
            NotRecordedError: The panel has no statistics of this kind.
            NotApplicableError: The model's statistics have other names, or there are fewer than
                three reference models.
        """
        statistics = self.statistics.get(own.kind)
        if statistics is None:
            raise NotRecordedError(
                f"there are no statistics {own.kind!r} of the reference models; "
                "`stress-harness calibrate` records them"
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
        """Return a sample with strata by the number of reference models that err on a clean image.

        It is the same for each model: models of the panel count, too.

        Args:
            images: The images to draw from.
            size: The number of images in the sample.
            clean: Predicts all images; recording the panel needs that.
            seed: The seed of the draw.

        Raises:
            NotRecordedError: Some images have no panel predictions.
        """
        of_all_models = replace(self, excluded=None).clean(images)
        wrong = of_all_models.wrong.astype(np.int64)
        wrong_by_others = wrong
        errors_by_model = self.view().each
        if self.excluded is not None and errors_by_model is not None:
            own_errors = errors_by_model[self.models.index(self.excluded)]
            wrong_by_others = wrong - own_errors[images.positions.numpy()]

        models = len(self.models)
        strata = _stratum(wrong, models)
        sizes = np.maximum(np.bincount(strata, minlength=STRATA), 1)
        mean_wrong = np.bincount(strata, wrong, STRATA) / sizes
        error_rates = (mean_wrong + 0.5) / (models + 1)
        return weighted_sample(
            images,
            size,
            of=strata,
            unseen=_stratum(wrong_by_others, self.reference_models),
            deviations=planned_deviations(error_rates),
            seed=seed,
        )

    def as_bytes(self) -> bytes:
        """Return the content of the file."""
        first_view = next(iter(self.views.values()))
        head = _PredictionsHead(
            SCHEMA,
            PROTOCOL,
            self.data_sha256,
            len(first_view.wrong),
            self.classes,
            self.models,
            tuple(sorted(self.views)),
        )
        head_text = json.dumps(as_plain(head))
        tables: dict[str, Any] = {_HEAD: np.frombuffer(head_text.encode(), dtype=np.uint8)}
        for number, view_name in enumerate(head.views):
            for table_name, table in _stored_tables(self.views[view_name]).items():
                tables[f"{number}.{table_name}"] = table
        tables |= tables_of(self.statistics)

        content = io.BytesIO()
        np.savez_compressed(content, **tables)
        return content.getvalue()


def _label_and_others(of_label: np.ndarray) -> np.ndarray:
    """Return the probabilities of the label, (N,), and of all other classes, (N, 2)."""
    return np.stack([of_label, 1 - of_label], axis=1)


def planned_deviations(errors: np.ndarray) -> np.ndarray:
    """Return the standard deviation of an error in strata with these shares of errors, (H,).

    Each share counts as at least `PLANNED_ERRORS`.

    >>> import numpy as np
    >>> planned_deviations(np.array([0.5]))
    array([0.5])
    """
    rate = np.maximum(errors, PLANNED_ERRORS)
    return np.asarray(np.sqrt(rate * (1 - rate)))


def _stratum(wrong: np.ndarray, models: int) -> np.ndarray:
    """Return strata by the number of models that err: none, all, and quarters between them."""
    strata = 1 + (wrong - 1) * (STRATA - 2) // max(models - 1, 1)
    strata = np.where(wrong == models, STRATA - 1, strata)
    return np.asarray(np.where(wrong == 0, 0, strata))


# The file.

_HEAD = "panel_predictions"
"""The first table of a file, text in JSON."""


@record
class _PredictionsHead:
    schema: int
    protocol: int
    data_sha256: str
    n: Annotated[int, Field(ge=1)]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    views: Annotated[tuple[str, ...], Field(min_length=1)]


def _stored_tables(view: PanelView) -> dict[str, np.ndarray]:
    """Return the tables of a view as a file has them, by name."""
    has_predictions = view.wrong != NOT_ASKED
    stored = {}
    for name in TABLES:
        values = getattr(view, name)
        if name in _ROOTS:
            values = _roots(values)
        table = np.full(values.shape, _NOBODY, dtype="<u2")
        table[has_predictions] = values[has_predictions]
        stored[name] = table

    if view.each is not None:
        stored["each"] = np.packbits(view.each)
    if view.mean is not None and view.soft is not None:
        stored["mean"] = _roots(np.nan_to_num(view.mean)).astype("<u2")
        stored["soft"] = view.soft.astype("<f4")
    return stored


def _roots(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(np.sqrt(probabilities) * _STEPS))


def read_panel_predictions(path: Path) -> PanelPredictions:
    """Read a file of panel predictions.

    Raises:
        InputError: The file is another one, damaged, or of another protocol.
    """
    try:
        head, tables = _read_tables(path)
        views = {}
        for number, name in enumerate(head.views):
            views[name] = _read_view(tables, f"{number}.", head, where=f"{path}: {name}")
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


def _read_tables(path: Path) -> tuple[_PredictionsHead, dict[str, np.ndarray]]:
    """Return the head of a file and its other tables by name."""
    with opened(path) as (archive, members):
        if _HEAD not in members:
            raise PanelError(f"{path}: not panel predictions")
        text = array_in(archive, members[_HEAD]).tobytes()
        head = read_json(_PredictionsHead, text, where=f"{path}", error=PanelError)
        if head.schema != SCHEMA:
            raise PanelError(refusal_of_schema(path, head.schema, expected=SCHEMA))
        if head.protocol != PROTOCOL:
            raise PanelError(f"{path}: recorded under protocol {head.protocol}, this is {PROTOCOL}")

        tables = {}
        for name, member in members.items():
            if name != _HEAD:
                tables[name] = array_in(archive, member)
    return head, tables


def _read_view(
    tables: Mapping[str, np.ndarray], prefix: str, head: _PredictionsHead, *, where: str
) -> PanelView:
    """Return the view whose tables have this prefix; raises `PanelError` for tables of no view."""
    greatest = {
        "wrong": len(head.models),
        "of_label": _STEPS,
        "likeliest": len(head.classes) - 1,
        "shares": _STEPS,
    }
    counts = _expected_table(tables, prefix, "wrong", head, where=where)
    has_predictions = counts != _NOBODY
    values = {}
    for name in TABLES:
        table = _expected_table(tables, prefix, name, head, where=where)
        if (table[has_predictions] > greatest[name]).any():
            raise PanelError(
                f"{where}: not predictions of {len(head.models)} models for {head.n} images"
            )
        values[name] = _values_in(table, name, has_predictions)

    each = _errors_by_model(tables.get(f"{prefix}each"), values["wrong"], head, where=where)
    mean = tables.get(f"{prefix}mean")
    soft = tables.get(f"{prefix}soft")
    if mean is not None or soft is not None:
        mean = _mean_probabilities(mean, soft, has_predictions, head, where=where)
    return PanelView(
        wrong=values["wrong"].astype(np.int16),
        of_label=values["of_label"],
        likeliest=values["likeliest"],
        shares=values["shares"],
        each=each,
        mean=mean,
        soft=soft,
    )


def _expected_table(
    tables: Mapping[str, np.ndarray], prefix: str, name: str, head: _PredictionsHead, *, where: str
) -> np.ndarray:
    """Return a table of a view; raises `PanelError` unless its type and its shape are right."""
    shape: tuple[int, ...] = (head.n,)
    if name in {"likeliest", "shares"}:
        shape = (head.n, min(LIKELIEST, len(head.classes)))
    table = tables.get(f"{prefix}{name}")
    if table is None or table.dtype != np.dtype("<u2") or table.shape != shape:
        raise PanelError(f"{where}: expected a table {name} of 16-bit numbers, {shape}")
    return table


def _values_in(table: np.ndarray, name: str, has_predictions: np.ndarray) -> np.ndarray:
    """Return the probabilities (float32) or numbers (int32) of a table in a file."""
    if name in _ROOTS:
        values = np.square(table / _STEPS).astype(np.float32)
        values[~has_predictions] = np.nan
    else:
        values = table.astype(np.int32)
        values[~has_predictions] = NOT_ASKED
    return values


def _errors_by_model(
    bits: np.ndarray | None, wrong: np.ndarray, head: _PredictionsHead, *, where: str
) -> np.ndarray | None:
    """Return the errors of each model, (K, N) bool; raises `PanelError` unless they add up."""
    if bits is None:
        return None
    size = len(head.models) * head.n
    each = None
    if bits.dtype == np.uint8 and bits.shape == (math.ceil(size / 8),):
        each = np.unpackbits(bits, count=size).reshape(len(head.models), head.n).astype(bool)
    if each is None or not np.array_equal(each.sum(axis=0), np.maximum(wrong, 0)):
        raise PanelError(f"{where}: the errors of each model do not add up to the counts")
    return each


def _mean_probabilities(
    mean: np.ndarray | None,
    soft: np.ndarray | None,
    has_predictions: np.ndarray,
    head: _PredictionsHead,
    *,
    where: str,
) -> np.ndarray:
    """Return the mean probabilities of all classes, (N, C) float32.

    Raises `PanelError` unless a file has both tables, of the right types and shapes.
    """
    models = len(head.models)
    classes = len(head.classes)
    refusal = PanelError(
        f"{where}: expected tables of mean probabilities of {classes} classes by {models} models"
    )
    if mean is None or soft is None:
        raise refusal
    right_types = mean.dtype == np.dtype("<u2") and soft.dtype == np.dtype("<f4")
    right_shapes = mean.shape == (head.n, classes) and soft.shape == (models, classes, classes)
    if not right_types or not right_shapes or np.isinf(soft).any():
        raise refusal
    probabilities = np.square(mean / _STEPS)
    return np.where(has_predictions[:, None], probabilities, np.nan).astype(np.float32)
