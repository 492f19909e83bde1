"""Consensus-set errors: a model is wrong where every reference model is correct."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError, NotApplicableError, NotRecordedError, PanelError
from harness.measures.accuracy import confusion_matrix
from harness.measures.metric import Measurement, Metric, Unit, count_of
from harness.measures.selection import ordered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.panel.predictions import PanelPredictions
    from harness.perturb import Perturbation

CONSENSUS_SET_ERRORS = Metric(
    "consensus_set_errors",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="errors on images that every reference model predicts correctly",
    leads="consensus-set errors",
)
WORST_CLASS_CONSENSUS_SET_ERRORS = replace(
    CONSENSUS_SET_ERRORS,
    name="worst_class_consensus_set_errors",
    words="errors of the worst class on images that every reference model predicts correctly",
    about_one=True,
    leads="",
)


@dataclass(frozen=True, eq=False)
class ConsensusErrors:
    """Errors of a model on the consensus set, under one or several perturbations.

    Attributes:
        images: The N images of the largest sample.
        perturbations: Those that the model was asked under.
        n: Number of predictions, over all perturbations.
        known: Size of the consensus set, over all perturbations.
        pairs: Number of errors by class and predicted class, (classes, classes) int64.
        telling: (perturbations, N), above 0 for each error; the more telling, the higher.
        reference_models: Number of models that define the consensus set.
        correction: Factor of these counts for a reference model of a small panel, see
            `PanelPredictions.correction`.
    """

    images: LabelledImages
    perturbations: Sequence[Perturbation]
    n: int
    known: int
    pairs: np.ndarray
    telling: np.ndarray
    reference_models: int
    correction: float = 1.0
    on_consensus_set = True
    """Its images are shown beside the mean prediction of the reference models."""

    @property
    def positions(self) -> np.ndarray:
        """Return the places of the images with an error, (M,) int64, the most telling first."""
        largest = self.telling.max(axis=0)
        return ordered(largest > 0, -largest)

    def perturbation_of(self, position: int) -> Perturbation:
        """Return the perturbation under which the error on the image here is most telling."""
        return self.perturbations[int(self.telling[:, position].argmax())]


def find_consensus_set_errors(
    answers: Sequence[Predictions], panel_predictions: PanelPredictions
) -> ConsensusErrors:
    """Return the errors of a model on the consensus set.

    An error is telling in proportion to the reference models' confidence in the label, times the
    model's in its wrong class.

    Args:
        answers: The model's predictions under one or several perturbations. They may be for
            different samples of one split if one sample contains the others.
        panel_predictions: Predictions of the reference models, which define the consensus set.

    Raises:
        InputError: There are no predictions.
        NotRecordedError: Panel predictions are missing, or the consensus set is empty.
        NotApplicableError: The set is empty for a model of the panel.
    """
    if not answers:
        raise PanelError("consensus: the check names no perturbation; add some with `under`")
    images = max((predictions.images for predictions in answers), key=len)
    columns = np.full(int(images.positions.max()) + 1, -1)
    columns[images.positions.numpy()] = np.arange(len(images))

    telling = np.zeros((len(answers), len(images)))
    pairs = np.zeros((len(images.classes),) * 2, dtype=np.int64)
    set_size = 0
    references = panel_predictions.consensus_sets(answers)
    for row, predictions, reference in zip(telling, answers, references, strict=True):
        errors = reference.consensus & ~predictions.correct
        weights = reference.of_label[errors]
        if predictions.has_confidence:
            weights = weights * predictions.confidence_of_errors()[errors]
        error_columns = columns[predictions.images.positions.numpy()[errors]]
        row[error_columns] = 1e-9 + weights  # Above 0 at any confidence.
        pairs += confusion_matrix(predictions, errors)
        set_size += int(reference.consensus.sum())

    if not set_size:
        raise empty_set(panel_predictions, "consensus: ")
    return ConsensusErrors(
        images,
        perturbations=tuple(predictions.perturbation for predictions in answers),
        n=sum(len(predictions.labels) for predictions in answers),
        known=set_size,
        pairs=pairs,
        telling=telling,
        reference_models=panel_predictions.reference_models,
        correction=panel_predictions.correction,
    )


def empty_set(panel_predictions: PanelPredictions, prefix: str = "") -> InputError:
    """Return the error for an empty consensus set.

    Without one model of the panel, the others may agree on nothing. That concerns this model alone.
    """
    error = NotRecordedError if panel_predictions.excluded is None else NotApplicableError
    count = panel_predictions.reference_models
    return error(f"{prefix}the {count} reference models agree on no image, so the set is empty")


def consensus_set_errors(lost: ConsensusErrors) -> Measurement:
    """Return the number of consensus-set errors over all perturbations.

    For a reference model of three to seven it is the number that is expected on the consensus set
    of them all. The interval is that of their rate among all predictions (Wilson 1927) times the
    number of predictions.
    """
    detail = (
        f"of {lost.known:,} that each of {lost.reference_models} reference models predicts "
        "correctly"
    )
    if lost.pairs.any():
        label, predicted = divmod(int(lost.pairs.argmax()), len(lost.pairs))
        names = lost.images.classes
        count = lost.pairs[label, predicted]
        detail += f"; most often {names[label]}→{names[predicted]}, {count}"
    all_images = np.ones(len(lost.images), dtype=bool)
    return _count(
        CONSENSUS_SET_ERRORS, lost, all_images, lost.n, detail, correction=lost.correction
    )


def worst_class_consensus_set_errors(lost: ConsensusErrors) -> Measurement:
    """Return the number of consensus-set errors of the class that has most of them.

    A defect of one class shows here and not in the sum. `n` counts the predictions for the largest
    class, the most errors that a class can have, and is the same for every model. `counted` are the
    predictions for the worst class. The interval follows from `n` as in `consensus_set_errors`.
    """
    errors_by_class = lost.pairs.sum(axis=1)
    worst = int(errors_by_class.argmax())
    labels = lost.images.labels.numpy()
    in_worst = labels == worst
    largest_size = int(np.bincount(labels).max())
    worst_size = int(in_worst.sum())
    detail = f"of {lost.images.classes[worst]}, of {int(errors_by_class.sum())} of all classes"

    # The largest of several counts falls less than their sum where the set shrinks, so it has no
    # correction.
    n = largest_size * len(lost.perturbations)
    measurement = _count(WORST_CLASS_CONSENSUS_SET_ERRORS, lost, in_worst, n, detail)
    return replace(measurement, counted=worst_size * len(lost.perturbations))


def _count(
    metric: Metric,
    lost: ConsensusErrors,
    selection: np.ndarray,
    n: int,
    detail: str,
    *,
    correction: float = 1,
) -> Measurement:
    """Return the number of errors on the selected images, (N,) bool."""
    errors_by_image = np.where(selection, (lost.telling > 0).sum(axis=0), 0)
    if correction != 1:
        errors_by_image = errors_by_image * correction
    # Under one perturbation, chance varies such counts like Poisson counts, so contributions add
    # nothing.
    contributions = errors_by_image if len(lost.perturbations) > 1 else None
    failures = lost.positions[selection[lost.positions]]
    total = errors_by_image.sum().item()
    return count_of(metric, total, n, detail=detail, failures=failures, each=contributions)
