"""Collection of panel predictions.

A run records those of each reference model, and then they are combined.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from harness.base.errors import NotApplicableError, PanelError
from harness.inference.predictions import softmax
from harness.measures.panel.predictions import (
    LIKELIEST,
    MANY,
    NOT_ASKED,
    TINY,
    PanelPredictions,
    PanelView,
)
from harness.measures.panel.statistics import ModelStatistics, combined_statistics
from harness.perturb import IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.inference import Predictions

KEPT = 10
"""Number of classes with a stored probability for each model.

The others, each at most 1 / 11, count as 0. Of clean images with at most `MANY` classes, all are
stored.
"""
_STATISTICS = "statistics-"
"""Start of the names of files with statistics in an archive."""
_AT_A_TIME = 1024
"""Number of images with probabilities of all classes in memory at a time."""


@dataclass(frozen=True, eq=False)
class ReferencePredictions:
    """Predictions of one reference model for M images of the split under one perturbation.

    Attributes:
        name: The `repr` of the perturbation.
        positions: The positions of the images in the split, (M,) int64.
        wrong: The errors, (M,) bool.
        of_label: The probability of each label, (M,) float32.
        likeliest: The most probable classes, (M, C) int32.
        shares: Their probabilities, (M, C) float32.
        classes: The names of the classes.
        labels: The true classes, (M,) int32.
    """

    name: str
    positions: np.ndarray
    wrong: np.ndarray
    of_label: np.ndarray
    likeliest: np.ndarray
    shares: np.ndarray
    classes: tuple[str, ...]
    labels: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))

    @staticmethod
    def of(predictions: Predictions) -> ReferencePredictions:
        """Return the part of a model's predictions that panel predictions need.

        Raises `NotApplicableError` unless every probability is known.
        """
        predictions.expect_known()
        classes = len(predictions.classes)
        stored_classes = min(KEPT, classes)
        if predictions.perturbation == IDENTITY:
            probabilities = predictions.probabilities
            if classes <= MANY:
                stored_classes = classes
        else:
            # Suspected label errors need exact probabilities of clean images; pictures of other
            # images do not.
            probabilities = softmax(predictions.answers)

        shares, likeliest = torch.topk(torch.from_numpy(probabilities), stored_classes)
        return ReferencePredictions(
            repr(predictions.perturbation),
            predictions.images.positions.numpy(),
            ~predictions.correct,
            probabilities[np.arange(len(probabilities)), predictions.labels],
            likeliest.numpy().astype(np.int32),
            shares.numpy(),
            predictions.classes,
            predictions.labels.astype(np.int32),
        )


@dataclass(frozen=True, eq=False)
class RecordedModel:
    """Record of one reference model: its predictions, and statistics of the model itself."""

    predictions: tuple[ReferencePredictions, ...] = ()
    statistics: tuple[ModelStatistics, ...] = ()


@dataclass(frozen=True, eq=False)
class PredictionRecorder(PanelPredictions):
    """Stand-in for the panel predictions during their collection.

    It writes those of a reference model to a folder.
    """

    folder: Path | None = None

    def consensus_sets(self, predictions: Sequence[Predictions]) -> NoReturn:
        """Write a file for each perturbation and sample; always raises `NotApplicableError`."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        for of_model in predictions:
            reference = ReferencePredictions.of(of_model)
            what_is_predicted = repr((reference.name, reference.positions.tobytes()))
            key = hashlib.sha256(what_is_predicted.encode()).hexdigest()
            np.savez(self.folder / f"{key}.npz", **vars(reference))
        raise NotApplicableError("this run records the predictions of a reference model")

    @property
    def has_votes(self) -> bool:
        """Return true: a test that needs strata has them recorded."""
        return True

    def weighted_sample(
        self, images: LabelledImages, size: int, *, clean: Callable[[], Predictions], seed: int = 0
    ) -> NoReturn:
        """Write the clean predictions of all images, which later define the strata.

        It always raises `NotApplicableError`.
        """
        self.consensus_sets([clean()])
        raise AssertionError(images, size, seed)

    def statistics_of_others(
        self, own: ModelStatistics, *, clean: Callable[[], Predictions]
    ) -> NoReturn:
        """Write the statistics, and the clean predictions that every file has.

        It always raises `NotApplicableError`.
        """
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        np.savez(self.folder / f"{_STATISTICS}{own.kind}.npz", **vars(own))
        self.consensus_sets([clean()])
        raise AssertionError(own)


def archive_of(folder: Path) -> bytes:
    """Return the files of a `PredictionRecorder` as one archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.glob("*.npz")):
            archive.write(file, file.name)
    return content.getvalue()


def read_archive(content: bytes) -> RecordedModel:
    """Return the record in an archive, in the order of its files' names.

    Raises `ValueError` for other content.
    """
    predictions = []
    statistics = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in sorted(archive.namelist()):
                arrays = dict(np.load(io.BytesIO(archive.read(name))))
                if name.startswith(_STATISTICS):
                    statistics.append(_as_statistics(arrays))
                else:
                    predictions.append(_as_predictions(arrays))
    except (zipfile.BadZipFile, KeyError, TypeError) as error:
        raise ValueError(f"no predictions ({error})") from None
    return RecordedModel(tuple(predictions), tuple(statistics))


def _as_predictions(arrays: dict[str, np.ndarray]) -> ReferencePredictions:
    name = str(arrays.pop("name"))
    classes = tuple(map(str, arrays.pop("classes")))
    return ReferencePredictions(name=name, classes=classes, **arrays)


def _as_statistics(arrays: dict[str, np.ndarray]) -> ModelStatistics:
    return ModelStatistics(str(arrays["kind"]), tuple(map(str, arrays["names"])), arrays["values"])


def combine(
    data_sha256: str,
    images: int,
    models: Sequence[str],
    recorded: Sequence[Sequence[ReferencePredictions]],
    statistics: Sequence[Sequence[ModelStatistics]] = (),
) -> PanelPredictions | None:
    """Return the panel predictions for a split from those of each model; None without any.

    Args:
        data_sha256: The hash of the images of the split.
        images: The number of these images.
        models: The models' hashes over their tensors.
        recorded: The predictions of each model.
        statistics: The statistics of each model.

    Raises:
        PanelError: Models have predictions of different images or perturbations.
    """
    _expect_same_requests(models, recorded)
    first = recorded[0]
    if not first:
        return None

    views: dict[str, PanelView] = {}
    for of_models in zip(*recorded, strict=True):
        name = of_models[0].name
        views[name] = _completed(_view_of(of_models, images), views.get(name))
    return PanelPredictions(
        data_sha256,
        first[0].classes,
        tuple(models),
        views,
        statistics=combined_statistics(statistics),
    )


def _expect_same_requests(
    models: Sequence[str], recorded: Sequence[Sequence[ReferencePredictions]]
) -> None:
    expected = _requests_in(recorded[0])
    for model, of_model in zip(models, recorded, strict=True):
        if _requests_in(of_model) != expected:
            raise PanelError(
                f"the reference model {model[:12]}… (SHA-256 of its tensors) has predictions of "
                f"other images or perturbations than {models[0][:12]}…. A test must request the "
                "same from every model"
            )


def _requests_in(recorded: Sequence[ReferencePredictions]) -> list[tuple[str, bytes]]:
    """Return the perturbation and the images of each request for predictions."""
    return [(predictions.name, predictions.positions.tobytes()) for predictions in recorded]


def _view_of(of_models: Sequence[ReferencePredictions], images: int) -> PanelView:
    """Return the view of a split of so many images from the predictions of each model."""
    first = of_models[0]
    wrong = _sum_of([model.wrong.astype(np.int16) for model in of_models])
    of_label = _sum_of([model.of_label.astype(np.float64) for model in of_models]) / len(of_models)
    likeliest, shares = _likeliest(of_models)

    def placed(rows: np.ndarray, missing: float) -> np.ndarray:
        table = np.full((images, *rows.shape[1:]), missing, dtype=rows.dtype)
        table[first.positions] = rows
        return table

    view = PanelView(
        placed(wrong, NOT_ASKED),
        placed(of_label.astype(np.float32), np.nan),
        placed(likeliest, NOT_ASKED),
        placed(shares, np.nan),
    )
    if first.name != repr(IDENTITY):
        return view

    view = replace(view, each=np.stack([placed(model.wrong, 0) for model in of_models]))
    has_labels = len(first.labels) == len(first.positions)
    has_all_classes = first.shares.shape[1] == len(first.classes)
    if not has_labels or not has_all_classes or len(first.classes) > MANY:
        return view
    mean, soft = _of_all_classes(of_models)
    return replace(view, mean=placed(mean, np.nan), soft=soft)


def _sum_of(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(sum(arrays))


def _of_all_classes(of_models: Sequence[ReferencePredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities of all classes, and each model's table `soft`.

    They are (M, C) float32 and (K, C, C) float32, see `PanelView`.
    """
    first = of_models[0]
    classes = len(first.classes)
    errors = _sum_of([model.wrong.astype(np.int16) for model in of_models])
    total = np.zeros((len(first.labels), classes))
    soft = np.zeros((len(of_models), classes, classes))
    for model, table in zip(of_models, soft, strict=True):
        own = np.zeros_like(total)
        np.put_along_axis(own, model.likeliest, model.shares.astype(np.float64), axis=1)
        total += own

        # Where the errors of all are this model's own, all others are correct.
        others_are_correct = errors == model.wrong
        for label in range(classes):
            probabilities = own[others_are_correct & (model.labels == label)]
            if len(probabilities):
                table[label] = np.log(np.maximum(probabilities.mean(axis=0), TINY))
            else:
                table[label] = np.nan
    mean = total / len(of_models)
    return mean.astype(np.float32), soft.astype(np.float32)


def _likeliest(of_models: Sequence[ReferencePredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes with the highest mean probability, and these means.

    They are (M, C) int32 and (M, C) float32.
    """
    first = of_models[0]
    classes = len(first.classes)
    images = len(first.positions)
    shape = (images, min(LIKELIEST, classes))
    likeliest = np.empty(shape, np.int32)
    shares = np.empty(shape, np.float32)
    for start in range(0, images, _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        total = np.zeros((len(likeliest[rows]), classes))
        for model in of_models:
            columns = model.likeliest[rows]
            sums = np.take_along_axis(total, columns, axis=1) + model.shares[rows]
            np.put_along_axis(total, columns, sums, axis=1)

        most_probable_first = np.argsort(-total, axis=1, kind="stable")[:, :LIKELIEST]
        likeliest[rows] = most_probable_first
        shares[rows] = np.take_along_axis(total, most_probable_first, axis=1) / len(of_models)
    return likeliest, shares


def merge(new: PanelPredictions, old: PanelPredictions | None) -> PanelPredictions:
    """Return new predictions and statistics, completed with old ones.

    These are of the same models for the same data; the models may have another order, and the
    classes other names. Other old ones count for nothing.
    """
    if old is None or not _is_same_panel(new, old):
        return new
    order = [old.models.index(model) for model in new.models]
    old_views = {name: _in_order(view, order) for name, view in old.views.items()}
    new_views = {name: _completed(view, old_views.get(name)) for name, view in new.views.items()}
    old_statistics = {
        kind: statistics.in_order(order) for kind, statistics in old.statistics.items()
    }
    return replace(
        new, views=old_views | new_views, statistics={**old_statistics, **new.statistics}
    )


def _is_same_panel(new: PanelPredictions, old: PanelPredictions) -> bool:
    same_models = sorted(old.models) == sorted(new.models) and len(old.classes) == len(new.classes)
    return same_models and old.data_sha256 == new.data_sha256


def _in_order(view: PanelView, order: Sequence[int]) -> PanelView:
    """Return a view with the models in another order."""
    if view.each is not None:
        view = replace(view, each=view.each[order])
    if view.soft is not None:
        view = replace(view, soft=view.soft[order])
    return view


def _completed(view: PanelView, old: PanelView | None) -> PanelView:
    """Return a view, completed where it has no predictions by an old one of the same models."""
    if old is None:
        return view
    is_new = view.wrong != NOT_ASKED
    completed = PanelView(
        _chosen(is_new, view.wrong, old.wrong),
        _chosen(is_new, view.of_label, old.of_label),
        _chosen(is_new, view.likeliest, old.likeliest),
        _chosen(is_new, view.shares, old.shares),
    )
    if view.each is not None and old.each is not None:
        completed = replace(completed, each=np.where(is_new, view.each, old.each))

    mean = view.mean
    if mean is None:
        mean = old.mean
    elif old.mean is not None:
        mean = _chosen(is_new, mean, old.mean)
    # A file distinguishes unknown probabilities from 0 only by images without predictions.
    if mean is None or np.isnan(mean[completed.wrong != NOT_ASKED]).any():
        return completed

    soft = view.soft
    if soft is None or (old.soft is not None and not is_new.all()):
        # The table of the whole split counts, not that of some of its images.
        soft = old.soft
    return replace(completed, mean=mean, soft=soft)


def _chosen(is_new: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Return the new row of each image that has one, and the old row of the others."""
    if new.ndim > 1:
        is_new = is_new[:, None]
    return np.where(is_new, new, old)
