"""Suspects among the labels: images on which healthy retrains agree against the label; and whose errors are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import NotApplicableError
from harness.measures.knowledge import NOT_ASKED
from harness.store.records import as_plain, record

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.knowledge import Knowledge, View

NEARLY_ALL = 0.95
"""Share of healthy retrains that must be wrong by the label."""
UNLIKELY = 0.05
"""Of what a class's own images have: a label that the panel finds less likely than that is suspect."""


@record
class Suspect:
    """An image whose label healthy retrains agree against.

    `index` is its position in the split, `answer` the class that they find likeliest in the mean, with its
    `probability` and that of the `label`; `wrong` of them do not answer with the label. `suspicion` is how likely they
    find the label, as a share of what images with this label have in the mean: the less, the more suspect.
    """

    index: int
    label: str
    answer: str
    probability: float
    label_probability: float
    wrong: int
    suspicion: float


@record
class Suspects:
    """The suspects among the labels of `n` images, by what `retrains` healthy networks say, the most suspect first."""

    n: int
    retrains: int
    rows: tuple[Suspect, ...]

    @property
    def indices(self) -> np.ndarray:
        """Return the positions in the split of the images, (M,) int64."""
        return np.array([row.index for row in self.rows], dtype=np.int64)

    def as_json(self) -> dict[str, Any]:
        """Return the table in plain types."""
        plain: dict[str, Any] = as_plain(self)
        return plain


def suspicion(mean: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how likely each label is as a share of what is usual for its class, (N,) float64, at least 0.

    `mean` are the panel's mean probabilities, (N, classes), `labels` (N,) int64. A class's own threshold is the mean
    probability of the class over the images that have its label (Northcutt et al. 2021, "Confident Learning", equation
    2), and images are ranked by self-confidence (section 3.2) against it: the least comes first. Networks are the less
    sure of a class the harder it is, and an image of a hard class is no suspect for that.
    """
    own = mean[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, own, minlength=mean.shape[1])
    thresholds = sums / np.maximum(np.bincount(labels, minlength=mean.shape[1]), 1)
    return np.asarray(own / np.maximum(thresholds[labels], 1e-12))


def suspects(images: LabelledImages, knowledge: Knowledge) -> Suspects:
    """Return the images whose labels nearly all healthy retrains agree against, the most suspect first.

    At least 95% of them answer otherwise, and find the label less than a twentieth as likely as it is for images of
    its class in the mean. The images are some or all of the split. Raises `NotApplicableError` where healthy retrains
    were not asked about them.
    """
    view, labels = _asked(images, knowledge), images.labels.numpy()
    unusual = suspicion(view.mean, labels)
    chosen = np.flatnonzero((view.wrong >= NEARLY_ALL * knowledge.retrains) & (unusual < UNLIKELY))
    rows = []
    for at in chosen[np.argsort(unusual[chosen], kind="stable")]:
        answer = int(view.mean[at].argmax())
        rows.append(
            Suspect(
                int(images.positions[at]),
                images.classes[labels[at]],
                images.classes[answer],
                float(view.mean[at, answer]),
                float(view.mean[at, labels[at]]),
                int(view.wrong[at]),
                float(unusual[at]),
            )
        )
    return Suspects(len(images), knowledge.retrains, tuple(rows))


@dataclass(frozen=True)
class Division:
    """A model's errors by whose they are: every healthy retrain's, contested among them, or the model's own.

    The first say something about the images or their labels, the last something about the model.
    """

    everyones: int
    contested: int
    own: int

    @property
    def words(self) -> str:
        """Say it in a few words."""
        return f"{self.own} its own, {self.contested} contested, {self.everyones} everyone's"


def shared_by(images: LabelledImages, knowledge: Knowledge) -> np.ndarray:
    """Return how many of the healthy retrains get each image wrong, as they are, as a share in [0, 1], (N,) float64.

    Raises `NotApplicableError` where they were not asked.
    """
    return np.asarray(_asked(images, knowledge).wrong / len(knowledge.members))


def whose(share: np.ndarray) -> np.ndarray:
    """Return whose error each image is where a model fails on it, (N,) of "everyone's", "contested" and "its own"."""
    return np.where(share >= 1, EVERYONES, np.where(share > 0, CONTESTED, OWN))


EVERYONES, CONTESTED, OWN = "everyone's", "contested", "its own"
"""Whose an error is: one that all healthy retrains make, some of them, or none."""


def division(predictions: Predictions, knowledge: Knowledge, failures: np.ndarray | None = None) -> Division:
    """Divide a model's errors, or these failures, (N,) bool, by how many healthy retrains make them at rest.

    Raises `NotApplicableError` where they were not asked about the images.
    """
    failed = ~predictions.correct if failures is None else failures
    owners = whose(shared_by(predictions.images, knowledge))[failed]
    return Division(*(int((owners == name).sum()) for name in (EVERYONES, CONTESTED, OWN)))


def _asked(images: LabelledImages, knowledge: Knowledge) -> View:
    """Return what healthy retrains say of these images, as they are."""
    view, positions = knowledge.view(), images.positions.numpy()
    if missing := int((view.wrong[positions] == NOT_ASKED).sum()):
        raise NotApplicableError(f"healthy retrains were not asked about {missing} of {len(positions)} images")
    return type(view)(view.wrong[positions], view.mean[positions])
