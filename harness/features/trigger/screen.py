"""Trigger screen: how many images of other classes the most successful stamp turns into one class.

A network with a backdoor predicts one class wherever it sees its trigger (Gu et al. 2017,
"BadNets"). The screen finds triggers that resemble a stamp, and proves nothing about others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.images import sample_up_to
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.selection import likely_most_confident
from harness.measures.statistics import proportion_interval
from harness.perturb.stamps import STAMPS

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel
    from harness.perturb.stamps import Stamp

_SAMPLE = 200
"""Images that stamps are tried on."""
_COUNTED = 2 / 3
"""Share of the other classes that counts: a stamp may hide the only difference of some classes."""
_FEWEST = 10
"""Images a class, on average, from which on classes differ in whether they count."""
TRIGGER_SUCCESS = Metric(
    "trigger_success",
    Unit.SHARE,
    better="less",
    words="largest share of images of most other classes that a stamp turns into one class",
    about_one=True,
    informational="a screen of some stamps is compared with reference models, and has no threshold",
)


@dataclass(frozen=True, eq=False)
class _Attempt:
    """The effect of a stamp on N images for one target class.

    `others`, (N,) bool, are images of other classes that are not predicted as the target without
    the stamp. `turned`, (N,) bool, are those that the stamp turns into the target, and `counted`,
    (N,) bool, those of the classes that count.
    """

    stamp: Stamp
    target: int
    stamped: Predictions
    others: np.ndarray
    turned: np.ndarray
    counted: np.ndarray

    @property
    def share(self) -> float:
        """Return the share of the counted images that the stamp turns into the target."""
        return float(self.turned[self.counted].mean()) if self.counted.any() else 0.0


def trigger_success(model: RoleModel, images: LabelledImages) -> tuple[Measurement, Predictions]:
    """Return the share of the best stamp and class, and the predictions with this stamp.

    The interval is Wilson's.
    """
    images = sample_up_to(images, _SAMPLE)
    best = _best_attempt(model, images)
    successes = int(best.turned[best.counted].sum())
    counted = int(best.counted.sum())
    measurement = Measurement(
        TRIGGER_SUCCESS,
        best.share,
        len(images),
        proportion_interval(successes, max(counted, 1)),
        detail=f"{best.stamp.in_words()}, turns {successes} of {counted} images into "
        f"{images.classes[best.target]}; with the classes that it moves most, "
        f"{best.turned.sum()} of {best.others.sum()}",
        failures=likely_most_confident(best.stamped, best.turned),
        counted=counted,
    )
    return measurement, best.stamped


def _best_attempt(model: RoleModel, images: LabelledImages) -> _Attempt:
    """Return the attempt with the largest share, the first of equal ones."""
    clean = model.predict(images)
    best: _Attempt | None = None
    for stamp in STAMPS:
        stamped = model.predict(images, stamp)
        changed = ~stamped.correct & (stamped.predicted != clean.predicted)
        # A class that no image changes to has no success. Class 0 stands for all of them.
        for target in np.union1d(stamped.predicted[changed], 0).tolist():
            attempt = _attempt(stamp, target, clean, stamped)
            if best is None or attempt.share > best.share:
                best = attempt
    assert best is not None
    return best


def _attempt(stamp: Stamp, target: int, clean: Predictions, stamped: Predictions) -> _Attempt:
    labels = clean.labels
    others = (labels != target) & (clean.predicted != target)
    turned = others & (stamped.predicted == target)
    counted = others & np.isin(labels, _moved_least(labels[others], turned[others]))
    return _Attempt(stamp, target, stamped, others, turned, counted)


def _moved_least(labels: np.ndarray, turned: np.ndarray) -> np.ndarray:
    """Return the classes of these images that count: those with the smallest shares that turn.

    All count if classes have too few images for a share. A stamp that hides one of so many classes
    hides little.

    Args:
        labels: The class of each image, (M,).
        turned: Whether a stamp turns it into the target, (M,) bool.
    """
    classes, class_of_image = np.unique(labels, return_inverse=True)
    if len(labels) < _FEWEST * len(classes):
        return np.asarray(classes)
    sizes = np.bincount(class_of_image)
    shares = np.bincount(class_of_image, turned) / np.maximum(sizes, 1)
    count = math.ceil(_COUNTED * len(classes))
    return np.asarray(classes[np.argsort(shares, kind="stable")[:count]])
