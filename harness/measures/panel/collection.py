"""Collection of panel predictions: a run records those of each reference model, and then they are combined."""

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
    TABLES,
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
"""Number of classes with a stored probability for each model. The others, each at most 1 / 11, count as 0.

Of clean images with at most `MANY` classes, all are stored."""
_STATISTICS = "statistics-"
"""Start of the names of files with statistics in an archive."""
_AT_A_TIME = 1024
"""Number of images with probabilities of all classes in memory at a time."""


@dataclass(frozen=True, eq=False)
class ReferencePredictions:
    """Predictions of one reference model for M images of the split under the perturbation of this `repr`.

    `wrong`, (M,) bool, marks its errors, and `of_label`, (M,) float32, is its probability of each label. `likeliest`,
    (M, C) int32, are the most probable of the `classes`, and `shares`, (M, C) float32, their probabilities. `labels`,
    (M,) int32, are the true classes.
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
        # Suspected label errors need exact probabilities of clean images; pictures of other images do not.
        predictions.expect_known()
        exact = predictions.perturbation == IDENTITY
        found = predictions.probabilities if exact else softmax(predictions.answers)
        classes = len(predictions.classes)
        kept = classes if exact and classes <= MANY else min(KEPT, classes)
        shares, likeliest = torch.topk(torch.from_numpy(found), kept)
        return ReferencePredictions(
            repr(predictions.perturbation),
            predictions.images.positions.numpy(),
            ~predictions.correct,
            found[np.arange(len(found)), predictions.labels],
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
    """Stand-in for the panel predictions during their collection: it writes those of a reference model to a folder."""

    folder: Path | None = None

    def consensus_sets(self, predictions: Sequence[Predictions]) -> NoReturn:
        """Write a file for each perturbation and sample; always raises `NotApplicableError`."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        for each in map(ReferencePredictions.of, predictions):
            key = hashlib.sha256(repr((each.name, each.positions.tobytes())).encode()).hexdigest()
            np.savez(self.folder / f"{key}.npz", **vars(each))
        raise NotApplicableError("this run records the predictions of a reference model")

    @property
    def has_votes(self) -> bool:
        """Return true: a test that needs strata has them recorded."""
        return True

    def weighted_sample(
        self, images: LabelledImages, size: int, *, clean: Callable[[], Predictions], seed: int = 0
    ) -> NoReturn:
        """Write the clean predictions of all images, which later define the strata; raises `NotApplicableError`."""
        self.consensus_sets([clean()])
        raise AssertionError(images, size, seed)

    def statistics_of_others(
        self, own: ModelStatistics, *, clean: Callable[[], Predictions]
    ) -> NoReturn:
        """Write the statistics, and the clean predictions that every file has; raises `NotApplicableError`."""
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
    """Return what an archive has, in the order of its files' names; raises `ValueError` for other content."""
    predictions, statistics = [], []
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
    name, classes = str(arrays.pop("name")), tuple(map(str, arrays.pop("classes")))
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
    """Return the panel predictions for a split of `images` images from those of each model; None without any.

    `models` are the models' hashes, and `statistics` those of each model. Raises `InputError` if models have
    predictions of different images.
    """
    first = recorded[0]
    questions = [[(each.name, each.positions.tobytes()) for each in parts] for parts in recorded]
    if other := [
        model for model, asked in zip(models, questions, strict=True) if asked != questions[0]
    ]:
        raise PanelError(
            f"the reference model {other[0][:12]}… (SHA-256 of its tensors) has predictions of other images or "
            f"perturbations than {models[0][:12]}…. A test must request the same from every model"
        )
    if not first:
        return None
    views: dict[str, PanelView] = {}
    for parts in zip(*recorded, strict=True):
        name, at = parts[0].name, parts[0].positions
        likeliest, shares = _likeliest(parts)
        of_label = sum(each.of_label.astype(np.float64) for each in parts) / len(parts)

        def placed(rows: np.ndarray, missing: float, at: np.ndarray = at) -> np.ndarray:
            table = np.full((images, *rows.shape[1:]), missing, dtype=rows.dtype)
            table[at] = rows
            return table

        clean = name == repr(IDENTITY)
        each = np.stack([placed(each.wrong, 0) for each in parts]) if clean else None
        known = (
            clean
            and len(parts[0].labels) == len(at)
            and parts[0].shares.shape[1] == len(parts[0].classes) <= MANY
        )
        mean, soft = _of_all_classes(parts) if known else (None, None)
        view = PanelView(
            placed(sum(each.wrong.astype(np.int16) for each in parts), NOT_ASKED),
            placed(of_label.astype(np.float32), np.nan),
            placed(likeliest, NOT_ASKED),
            placed(shares, np.nan),
            each,
            None if mean is None else placed(mean, np.nan),
            soft,
        )
        views[name] = _completed(view, views.get(name))
    return PanelPredictions(
        data_sha256,
        first[0].classes,
        tuple(models),
        views,
        statistics=combined_statistics(statistics),
    )


def _of_all_classes(parts: Sequence[ReferencePredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities, (M, C) float32, and each model's `soft` table, (K, C, C), see `PanelView`."""
    classes, errors = len(parts[0].classes), sum(each.wrong.astype(np.int16) for each in parts)
    total, soft = (
        np.zeros((len(parts[0].labels), classes)),
        np.zeros((len(parts), classes, classes)),
    )
    for each, table in zip(parts, soft, strict=True):
        own = np.zeros_like(total)
        np.put_along_axis(own, each.likeliest, each.shares.astype(np.float64), axis=1)
        total += own
        by_others = errors == each.wrong  # All others are right.
        for label in range(classes):
            some = own[by_others & (each.labels == label)]
            table[label] = np.log(np.maximum(some.mean(axis=0), TINY)) if len(some) else np.nan
    return (total / len(parts)).astype(np.float32), soft.astype(np.float32)


def _likeliest(parts: Sequence[ReferencePredictions]) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes with the highest mean probability, (M, C) int32, and these means, (M, C) float32."""
    classes, images = len(parts[0].classes), len(parts[0].positions)
    likeliest, shares = (
        np.empty((images, min(LIKELIEST, classes)), kind) for kind in (np.int32, np.float32)
    )
    for start in range(0, images, _AT_A_TIME):
        rows = slice(start, start + _AT_A_TIME)
        total = np.zeros((len(likeliest[rows]), classes))
        for each in parts:
            at = each.likeliest[rows]
            np.put_along_axis(
                total, at, np.take_along_axis(total, at, axis=1) + each.shares[rows], axis=1
            )
        likeliest[rows] = order = np.argsort(-total, axis=1, kind="stable")[:, :LIKELIEST]
        shares[rows] = np.take_along_axis(total, order, axis=1) / len(parts)
    return likeliest, shares


def merge(new: PanelPredictions, old: PanelPredictions | None) -> PanelPredictions:
    """Return new predictions and statistics, completed with old ones of the same models for the same data.

    The models may have another order, and the classes other names.
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
    return replace(
        view,
        each=None if view.each is None else view.each[order],
        soft=None if view.soft is None else view.soft[order],
    )


def _completed(view: PanelView, old: PanelView | None) -> PanelView:
    # Where the view has no predictions, those of an old one of the same models.
    if old is None:
        return view
    asked = view.wrong != NOT_ASKED
    tables = {
        name: np.where(asked if now.ndim == 1 else asked[:, None], now, getattr(old, name))
        for name, now in ((name, getattr(view, name)) for name in TABLES)
    }
    each = None if view.each is None or old.each is None else np.where(asked, view.each, old.each)
    mean, soft = view.mean, view.soft
    if mean is not None and old.mean is not None:
        mean = np.where(asked[:, None], mean, old.mean)
    if not asked.all():  # The table of the whole split counts.
        soft = soft if old.soft is None else old.soft
    mean, soft = old.mean if mean is None else mean, old.soft if soft is None else soft
    if mean is None or np.isnan(mean[tables["wrong"] != NOT_ASKED]).any():
        mean = soft = (
            None  # A file tells unknown probabilities from 0 by the images without predictions alone.
        )
    return PanelView(**tables, each=each, mean=mean, soft=soft)
