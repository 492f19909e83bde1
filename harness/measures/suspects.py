"""Suspects among the labels: images on which healthy retrains agree against the label; and whose errors are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import NotApplicableError
from harness.measures.failure_kinds import OWN
from harness.measures.knowledge import NOT_ASKED, View
from harness.store.records import as_plain, record

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.measures.knowledge import Knowledge

NEARLY_ALL = 0.95
"""Share of healthy retrains that must be wrong by the label."""
UNLIKELY = 0.05
"""Of what a class's own images have: a label that the panel finds less likely than that is suspect."""
LEAST = 3
"""Healthy retrains: of fewer, nearly all are all, and whatever they get wrong with confidence would be suspect."""


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


def suspicion(of_label: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how likely each label is as a share of what is usual for its class, (N,) float64, at least 0.

    `of_label` are the panel's mean probabilities of the `labels`, (N,) int64. A class's own threshold is the mean of
    them over the images that have its label (Northcutt et al. 2021, "Confident Learning", equation 2), and images are
    ranked by self-confidence (section 3.2) against it: the least comes first. Networks are the less sure of a class the
    harder it is, and an image of a hard class is no suspect for that.
    """
    own = of_label.astype(np.float64)
    thresholds = np.bincount(labels, own) / np.maximum(np.bincount(labels), 1)
    return np.asarray(own / np.maximum(thresholds[labels], 1e-12))


def suspects(images: LabelledImages, knowledge: Knowledge, labels: np.ndarray | None = None) -> Suspects:
    """Return the images whose labels nearly all healthy retrains agree against, the most suspect first.

    At least 95% of them answer otherwise, and find the label less than a twentieth as likely as it is for images of
    its class in the mean: of all images of the split that they were asked about, so that an image is suspect in every
    sample or in none. `labels` are those of the whole split, (S,) int64; without them the images are all of it. Raises
    `NotApplicableError` where healthy retrains were not asked about the images, and for fewer than three of them.
    """
    view, whole, positions = expect_asked(images, knowledge), knowledge.view(), images.positions.numpy()
    if len(knowledge.members) < LEAST:
        raise NotApplicableError(
            f"which labels are suspect is not told by {len(knowledge.members)} retrains: expected {LEAST} or more, "
            "since so few may all be wrong; calibrate with more"
        )
    labels = images.labels.numpy() if labels is None else labels
    if len(labels) != len(whole.wrong):
        raise NotApplicableError(
            f"which labels are suspect is not told by {len(labels)} labels: expected those of all {len(whole.wrong)} "
            "images of the split"
        )
    asked = np.flatnonzero(whole.wrong != NOT_ASKED)
    unusual = np.full(len(labels), np.nan)
    unusual[asked] = suspicion(whole.of_label[asked], labels[asked])
    unusual, labels = unusual[positions], labels[positions]
    chosen = np.flatnonzero((view.wrong >= NEARLY_ALL * len(knowledge.members)) & (unusual < UNLIKELY))
    rows = tuple(
        Suspect(
            int(positions[at]),
            images.classes[labels[at]],
            images.classes[view.likeliest[at, 0]],
            float(view.shares[at, 0]),
            float(view.of_label[at]),
            int(view.wrong[at]),
            float(unusual[at]),
        )
        for at in chosen[np.argsort(unusual[chosen], kind="stable")]
    )
    return Suspects(len(images), len(knowledge.members), rows)


def owners(predictions: Predictions, knowledge: Knowledge) -> dict[str, frozenset[int]]:
    """Return which images, by their positions in the split, whose errors are: everyone's, contested, the model's own.

    Everyone's are wrong for every healthy retrain at rest, so that they say something about the image or its label;
    contested for some; and only what is wrong for none of them says something about the model. A model that is one of
    the retrains itself is held against the others. Raises `NotApplicableError` where they were not asked.
    """
    wrong, positions = expect_asked(predictions.images, knowledge).wrong, predictions.images.positions.numpy()
    if knowledge.besides is not None:
        # Its own error is among those counted, but for one that it did not make when it was asked.
        wrong = np.clip(wrong - ~predictions.correct, 0, knowledge.retrains)
    kinds = {
        EVERYONES: wrong == knowledge.retrains,
        CONTESTED: (wrong > 0) & (wrong < knowledge.retrains),
        OWN: wrong == 0,
    }
    return {name: frozenset(positions[which].tolist()) for name, which in kinds.items()}


EVERYONES, CONTESTED = "everyone's: every retrain is wrong", "contested: some retrains are wrong"
"""The kinds of errors that say less of a model than of the images."""


@record
class WithoutSuspects:
    """What a model gets right of the `n` images that are no suspects, and what healthy retrains do of the same.

    `lost` counts its errors on suspects. `healthy_mean` and `healthy_std` are None where it is not known what each
    retrain gets right.
    """

    accuracy: float
    n: int
    lost: int
    healthy_mean: float | None = None
    healthy_std: float | None = None


def without(predictions: Predictions, knowledge: Knowledge, found: Suspects) -> WithoutSuspects:
    """Measure a model on the images that are no suspects; its answers are about images as they are."""
    positions = predictions.images.positions.numpy()
    kept = ~np.isin(positions, found.indices)
    each = knowledge.view().each
    healthy: tuple[float, float] | tuple[None, None] = (None, None)
    if each is not None and len(each) > 1:
        shares = 1 - each[:, positions[kept]].mean(axis=1)
        healthy = float(shares.mean()), float(shares.std(ddof=1))
    lost = int((~predictions.correct[~kept]).sum())
    return WithoutSuspects(float(predictions.correct[kept].mean()), int(kept.sum()), lost, *healthy)


def expect_asked(images: LabelledImages, knowledge: Knowledge) -> View:
    """Return what healthy retrains say of these images, as they are, or raise `NotApplicableError`."""
    knowledge.expect_others()
    view, positions = knowledge.view(), images.positions.numpy()
    if missing := int((view.wrong[positions] == NOT_ASKED).sum()):
        raise NotApplicableError(
            f"retrains were not asked about {missing} of {len(positions)} images; calibrate a family "
            "on all of them that wants to know, such as flips"
        )
    return view.take(positions)
