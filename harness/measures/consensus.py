"""What every healthy retrain gets right and the model gets wrong: images lost, over one or several perturbations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError, NotApplicableError, NotRecordedError
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.mistakes import confusion_matrix
from harness.measures.statistics import count_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.knowledge import Knowledge
    from harness.perturb import Perturbation

LOST_CONSENSUS = Metric(
    "lost_consensus",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="images lost of those that every retrain gets right",
)


LOST_OF_A_CLASS = Metric(
    "lost_of_a_class",
    Unit.IMAGES,
    better="less",
    scale="root",
    words="images lost of those that every retrain gets right, of the class that loses most",
)


@dataclass(frozen=True, eq=False)
class Lost:
    """What a model loses, under some perturbations, of what each of `retrains` healthy networks gets right.

    `known` counts that over all perturbations, of `n` answers; `pairs`, (classes, classes) int64, counts what is lost
    of it, by class and by the class that it is taken for. `positions`, (M,) int64, are the images lost under at least
    one, as they stand in `images`, the most telling first; `under`, (M,) int64, says which of the `perturbations` each
    is most telling under, and `times`, (N,) int64, how often each of the images is lost.
    """

    images: LabelledImages
    perturbations: Sequence[Perturbation]
    n: int
    known: int
    pairs: np.ndarray
    positions: np.ndarray
    under: np.ndarray
    times: np.ndarray
    retrains: int

    def perturbation_of(self, position: int) -> Perturbation:
        """Return the perturbation under which the loss of the image at this position is most telling."""
        (row,) = self.under[self.positions == position]
        return self.perturbations[int(row)]


def lost_to(answers: Sequence[Predictions], knowledge: Knowledge) -> Lost:
    """Return what a model loses, by its answers under some perturbations, of what every healthy retrain gets right.

    Answers may be about different samples of one split, one of which holds the others. The most telling losses are of
    images of whose class healthy retrains are surest in the mean, and of whose wrong class the model is: by the product
    of the two. Raises `InputError` for no answers, `NotRecordedError` where healthy retrains were not asked, and where
    there is nothing that each of them gets right, so that nothing can be lost and no bound can be kept, and
    `NotApplicableError` where a retrain that is held against the others finds no such image.
    """
    if not answers:
        raise InputError("consensus: there is no answer; name in the row under which perturbations to ask")
    images = max((each.images for each in answers), key=len)
    places = np.full(int(images.positions.max()) + 1, -1)
    places[images.positions.numpy()] = np.arange(len(images))
    telling = np.zeros((len(answers), len(images)))
    known, pairs = 0, np.zeros((len(images.classes),) * 2, dtype=np.int64)
    for row, each, healthy in zip(telling, answers, knowledge.about(answers), strict=True):
        lost = healthy.consensus & ~each.correct
        sureness = healthy.of_label[lost] * each.confidence_of_errors()[lost]
        row[places[each.images.positions.numpy()[lost]]] = 1e-9 + sureness  # Above 0, however unsure.
        known += int(healthy.consensus.sum())
        pairs += confusion_matrix(each, lost)
    if not known:
        error = NotRecordedError if knowledge.besides is None else NotApplicableError
        raise error(f"consensus: there is no image that each of {knowledge.retrains} retrains gets right")
    positions = np.flatnonzero(telling.any(axis=0))
    positions = positions[np.argsort(-telling.max(axis=0)[positions], kind="stable")]
    return Lost(
        images,
        tuple(each.perturbation for each in answers),
        n=sum(len(each.labels) for each in answers),
        known=known,
        pairs=pairs,
        positions=positions,
        under=telling.argmax(axis=0)[positions],
        times=(telling > 0).sum(axis=0),
        retrains=knowledge.retrains,
    )


def lost_consensus(lost: Lost) -> Measurement:
    """Return how many images are lost of those that every healthy retrain gets right, over all perturbations.

    The interval is that of the rate among all answers (Wilson 1927) times their number.
    """
    detail = f"of {lost.known} that each of {lost.retrains} retrains gets right"
    if lost.pairs.any():
        true, taken = divmod(int(lost.pairs.argmax()), len(lost.pairs))
        names = lost.images.classes
        detail += f"; most often {names[true]}→{names[taken]}, {lost.pairs[true, taken]}"
    return _measured(LOST_CONSENSUS, lost, lost.positions, lost.times, detail, n=lost.n)


def lost_of_a_class(lost: Lost) -> Measurement:
    """Return how many images the class that loses most loses of those that every healthy retrain gets right.

    What is wrong with one class alone shows here, and not in the sum. It is a count of the answers about the largest
    class, which no class can lose more of. The interval is as that of `lost_consensus`, of these.
    """
    of_each, labels = lost.pairs.sum(axis=1), lost.images.labels.numpy()
    worst, largest = int(of_each.argmax()), int(np.bincount(labels).max())
    detail = f"of {lost.images.classes[worst]}, of {int(of_each.sum())} of all classes"
    failures, times = lost.positions[labels[lost.positions] == worst], np.where(labels == worst, lost.times, 0)
    return _measured(LOST_OF_A_CLASS, lost, failures, times, detail, n=largest * len(lost.perturbations))


def _measured(
    metric: Metric, lost: Lost, failures: np.ndarray, times: np.ndarray, detail: str, *, n: int
) -> Measurement:
    count = int(times.sum())
    # Under one perturbation chance moves such counts as it does Poisson's, and there is nothing to tell.
    each = times if len(lost.perturbations) > 1 else None
    return Measurement(metric, count, n, count_interval(count, n), detail=detail, failures=failures, each=each)
