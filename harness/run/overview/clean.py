"""A model on clean images: accuracy, by class, confusions, calibration, and without suspected label errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.records import record
from harness.measures import accuracy, calibration_error, confident_errors
from harness.measures.accuracy import confusion_matrix
from harness.measures.confidence import reliability as reliability_curve
from harness.measures.panel.label_errors import WithoutLabelErrors, without
from harness.run.overview.part import Part, Rate, Subject, rate_of

if TYPE_CHECKING:
    from harness.inference import Predictions

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
