"""A model on clean images: accuracy, by class, confusions, calibration, and without suspected label errors."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.base.records import record
from harness.data.rows import parts_of
from harness.measures import accuracy, calibration_error, confident_errors
from harness.measures.accuracy import confusion_matrix
from harness.measures.confidence import reliability as reliability_curve
from harness.measures.localisation import PART_BYTES
from harness.measures.panel.label_errors import WithoutLabelErrors, without
from harness.run.overview.part import Part, Rate, Subject, rate_of

if TYPE_CHECKING:
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions, PanelView


CONFIDENT = 0.9
"""Errors above this confidence are counted as confident, as in the study."""


@record
class ReliabilityBin:
    """Predictions with a confidence in one bin: their number, mean confidence and accuracy."""

    count: int
    confidence: float | None
    accuracy: float | None


@record
class Clean:
    """A model on all clean images.

    `per_class` follows the classes' order, None for a class without images. `confusion` counts images, a row for each
    true class and a column for each predicted one. `calibration_error` is the expected one, over the bins of
    `reliability`, of all images or fewer, or left out. A predictor of labels has no values of confidence.
    """

    accuracy: Rate
    per_class: tuple[Rate | None, ...]
    confusion: tuple[tuple[int, ...], ...]
    confident_errors: int | None
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...]


def _clean(subject: Subject) -> Clean:
    images = subject.images
    predictions, sure = subject.model.predict(images), subject.sure and subject.model.predict(subject.sure)
    confusions, known = confusion_matrix(predictions), predictions.has_confidence
    present = confusions.sum(axis=1) > 0
    return Clean(
        accuracy=rate_of(accuracy(predictions)),
        per_class=tuple(
            rate_of(accuracy(predictions, of_class=name)) if there else None
            for name, there in zip(images.classes, present, strict=True)
        ),
        confusion=tuple(tuple(map(int, row)) for row in confusions),
        confident_errors=int(confident_errors(predictions, above=CONFIDENT).value) if known else None,
        calibration_error=float(calibration_error(sure).value) if known and sure else None,
        reliability=reliability(sure) if known and sure else (),
    )


def reliability(predictions: Predictions) -> tuple[ReliabilityBin, ...]:
    """Return the predictions by confidence, in the bins of the expected calibration error."""
    curve = reliability_curve(predictions)
    return tuple(ReliabilityBin(*each) for each in zip(curve.counts, curve.at, curve.values, strict=True))


@record
class Labels:
    """Accuracy of a model without the suspected label errors; None if none are known."""

    without_label_errors: WithoutLabelErrors | None = None


def _labels(subject: Subject) -> Labels:
    if subject.label_errors is None or subject.panel_predictions is None or not subject.label_errors.rows:
        return Labels()
    return Labels(without(subject.model.predict(subject.images), subject.panel_predictions, subject.label_errors))


CLEAN = Part(Clean, _clean)
LABELS = Part(Labels, _labels)


SHOWN, OF_CONFUSION = 300, 20
"""Mistakes that an overview names, at most: of all confusions, and of one."""


@record
class Reference:
    """Predictions of `models` reference models for an image: `wrong` of them err. Their mean has a class and share."""

    models: int
    wrong: int
    predicted: str
    confidence: float


@record
class Mistake:
    """An image whose class is `true` and is predicted as `predicted`; None without confidence or reference models."""

    index: int
    true: str
    predicted: str
    confidence: float | None = None
    reference: Reference | None = None


def mistakes_of(predictions: Predictions, panel: PanelPredictions | None) -> tuple[Mistake, ...]:
    """Return mistakes of each confusion, the most confident first; every confusion has one before any has two."""
    confidence = predictions.confidence_of_errors() if predictions.has_confidence else None
    wrong = np.flatnonzero(~predictions.correct)
    if confidence is not None:
        wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    ranks: dict[tuple[int, int], int] = {}
    ranked = []
    for at in wrong.tolist():
        confusion = int(predictions.labels[at]), int(predictions.predicted[at])
        ranks[confusion] = rank = ranks.get(confusion, -1) + 1
        ranked.append((rank, at))
    chosen = [at for rank, at in sorted(ranked, key=lambda item: item[0]) if rank < OF_CONFUSION][:SHOWN]
    known = _view(predictions, np.array(chosen, dtype=np.int64), panel)
    classes, positions = predictions.classes, predictions.images.positions.numpy()
    return tuple(
        Mistake(
            index=int(positions[at]),
            true=classes[int(predictions.labels[at])],
            predicted=classes[int(predictions.predicted[at])],
            confidence=None if confidence is None else float(confidence[at]),
            reference=None if known is None or panel is None else _reference(known, row, classes, panel),
        )
        for row, at in enumerate(chosen)
    )


def _view(predictions: Predictions, at: np.ndarray, panel: PanelPredictions | None) -> PanelView | None:
    """Return what reference models predict for the images at these places; None where that is not recorded."""
    if panel is None or panel.excluded is not None or not len(at):
        return None
    with suppress(NotApplicableError):
        return panel.view().take(predictions.images.positions.numpy()[at])
    return None


def _reference(view: PanelView, row: int, classes: tuple[str, ...], panel: PanelPredictions) -> Reference | None:
    if view.wrong[row] < 0:
        return None
    likeliest, share = int(view.likeliest[row, 0]), float(view.shares[row, 0])
    return Reference(panel.reference_models, int(view.wrong[row]), classes[likeliest], share)


@record
class OnObject:
    """Grad-CAM mass on the object, of one class or all: mean `ratio` and `lift` over `n` images.

    `ratio` is the share of a map's mass on the object, `uniform` what a uniform map would have,
    and `lift` the mean of their quotient. Dead maps and empty masks are left out.
    """

    ratio: float
    uniform: float
    lift: float
    n: int


@record
class Looking:
    """Attention on the object, by class in the classes' order and of all; nothing where there is no attention."""

    on_object: tuple[OnObject | None, ...] = ()
    on_object_overall: OnObject | None = None


def _looking(subject: Subject) -> Looking:
    """Measure attention on the object where the model has any and the object is known."""
    from harness.base.errors import NotApplicableError
    from harness.data.images import object_masks

    sample = subject.sample
    try:
        masks, attention = object_masks(sample), subject.model.attend(sample)
    except NotApplicableError:
        return Looking()
    area = masks.mean(axis=(1, 2))
    mass, inside = np.empty((2, len(masks)), dtype=np.float32)
    for part in parts_of(len(masks), masks[0].size * mass.itemsize, part_bytes=PART_BYTES):
        maps = attention.upsampled(part)
        mass[part], inside[part] = maps.sum(axis=(1, 2)), np.where(masks[part], maps, 0).sum(axis=(1, 2))
    known = (mass > 0) & (area > 0)
    ratio = inside / np.where(known, mass, 1)

    def mean_of(chosen: np.ndarray) -> OnObject | None:
        if not chosen.any():
            return None
        shares, uniform = ratio[chosen].astype(np.float64), area[chosen]
        return OnObject(
            float(shares.mean()), float(uniform.mean()), float((shares / uniform).mean()), int(chosen.sum())
        )

    labels = sample.labels.numpy()
    return Looking(tuple(mean_of(known & (labels == label)) for label in range(len(sample.classes))), mean_of(known))


LOOKING = Part(Looking, _looking, "attention on the object", 3)
