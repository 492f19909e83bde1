"""Consensus-set errors: images that every reference model predicts correctly and a model does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, NotRecordedError, PanelError
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
    """Errors of a model on the consensus set of `reference_models` models, under one or several perturbations.

    `known` is the size of the set over all perturbations, among `n` predictions. `pairs`, (classes, classes) int64,
    counts the errors by class and predicted class. `telling`, (perturbations, N), is above 0 for each error on
    `images`, the more telling, the higher. `positions`, (M,) int64, are the places of those with an error, the most
    telling first. `correction` is the factor of these counts for a reference model of few, see
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
        most = self.telling.max(axis=0)
        return ordered(most > 0, -most)

    def perturbation_of(self, position: int) -> Perturbation:
        """Return the perturbation under which the error on the image at this position is most telling."""
        return self.perturbations[int(self.telling[:, position].argmax())]


def find_consensus_set_errors(
    answers: Sequence[Predictions], panel_predictions: PanelPredictions
) -> ConsensusErrors:
    """Return the errors of a model on the consensus set, by its predictions under one or several perturbations.

    The predictions may be for different samples of one split if one sample contains the others. An error is telling in
    proportion to the reference models' confidence in the label, times the model's in its wrong class. Raises
    `InputError` for no predictions, and `NotRecordedError` for missing panel predictions and an empty consensus set.
    For a model of the panel, an empty set raises `NotApplicableError`.
    """
    if not answers:
        raise PanelError("consensus: the check names no perturbation; add some with `under`")
    images = max((each.images for each in answers), key=len)
    places = np.full(int(images.positions.max()) + 1, -1)
    places[images.positions.numpy()] = np.arange(len(images))
    telling = np.zeros((len(answers), len(images)))
    known, pairs = 0, np.zeros((len(images.classes),) * 2, dtype=np.int64)
    for row, each, reference in zip(
        telling, answers, panel_predictions.consensus_sets(answers), strict=True
    ):
        lost = reference.consensus & ~each.correct
        sureness = reference.of_label[lost]
        if each.has_confidence:
            sureness = sureness * each.confidence_of_errors()[lost]
        row[places[each.images.positions.numpy()[lost]]] = (
            1e-9 + sureness
        )  # Above 0 at any confidence.
        known += int(reference.consensus.sum())
        pairs += confusion_matrix(each, lost)
    if not known:
        error = NotRecordedError if panel_predictions.excluded is None else NotApplicableError
        count = panel_predictions.reference_models
        raise error(
            f"consensus: the {count} reference models agree on no image, so the set is empty"
        )
    perturbations, n = (
        tuple(each.perturbation for each in answers),
        sum(len(each.labels) for each in answers),
    )
    models, correction = panel_predictions.reference_models, panel_predictions.correction
    return ConsensusErrors(images, perturbations, n, known, pairs, telling, models, correction)


def consensus_set_errors(lost: ConsensusErrors) -> Measurement:
    """Return the number of consensus-set errors over all perturbations.

    For a reference model of three to seven it is the number that is expected on the consensus set of them all.
    The interval is that of their rate among all predictions (Wilson 1927) times the number of predictions.
    """
    detail = f"of {lost.known:,} that each of {lost.reference_models} reference models predicts correctly"
    if lost.pairs.any():
        true, taken = divmod(int(lost.pairs.argmax()), len(lost.pairs))
        names = lost.images.classes
        detail += f"; most often {names[true]}→{names[taken]}, {lost.pairs[true, taken]}"
    every = np.ones(len(lost.images), dtype=bool)
    return _measured(CONSENSUS_SET_ERRORS, lost, every, lost.n, detail, correction=lost.correction)


def worst_class_consensus_set_errors(lost: ConsensusErrors) -> Measurement:
    """Return the number of consensus-set errors of the class that has most of them.

    A defect of one class shows here and not in the sum. `n` counts the predictions for the largest class, the most
    errors that a class can have, and is the same for every model. `counted` are the predictions for the worst class.
    The interval follows from `n` as in `consensus_set_errors`. The largest of several counts falls less than their sum
    where the set shrinks, so it has no correction.
    """
    of_each, labels = lost.pairs.sum(axis=1), lost.images.labels.numpy()
    worst, largest = int(of_each.argmax()), int(np.bincount(labels).max())
    detail = f"of {lost.images.classes[worst]}, of {int(of_each.sum())} of all classes"
    of_worst = labels == worst
    n, counted = (count * len(lost.perturbations) for count in (largest, int(of_worst.sum())))
    return replace(
        _measured(WORST_CLASS_CONSENSUS_SET_ERRORS, lost, of_worst, n, detail), counted=counted
    )


def _measured(
    metric: Metric,
    lost: ConsensusErrors,
    chosen: np.ndarray,
    n: int,
    detail: str,
    *,
    correction: float = 1,
) -> Measurement:
    times = np.where(chosen, (lost.telling > 0).sum(axis=0), 0)
    times = times if correction == 1 else times * correction
    # Under one perturbation, chance varies such counts like Poisson counts, so contributions add nothing.
    each = times if len(lost.perturbations) > 1 else None
    failures = lost.positions[chosen[lost.positions]]
    return count_of(metric, times.sum().item(), n, detail=detail, failures=failures, each=each)
