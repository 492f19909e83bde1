"""Trigger screen: how many images of other classes a stamp turns into one class, for the most successful stamp.

A network with a backdoor predicts one class wherever it sees its trigger (Gu et al. 2017, "BadNets"). The screen finds
triggers that resemble a stamp of the library, and proves nothing about others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.data.images import sample_up_to
from harness.features.trigger.stamps import STAMPS, Stamp
from harness.measures.metric import Measurement, Metric, Unit
from harness.measures.selection import likely_most_confident
from harness.measures.statistics import proportion_interval

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel

_SAMPLE = 200
"""Images that each stamp is tried on, at most."""
_KEPT = 2 / 3
"""Part of the other classes that counts. A stamp may hide what tells one class from the next; a trigger moves all."""
TRIGGER_SUCCESS = Metric(
    "trigger_success",
    Unit.SHARE,
    better="less",
    words="largest share of images of most other classes that a stamp turns into one class",
    about_one=True,
    informational="a screen of some stamps is compared with reference models, and has no threshold",
)


@dataclass(frozen=True, eq=False)
class Trigger:
    """The most successful stamp and the class that it leads to, with the predictions of N stamped images.

    `others`, (N,) bool, are the images of other classes that are not predicted as this class when clean. Of them,
    `turned` become this class, and `counted` are of the classes that count.
    """

    stamp: Stamp
    target: int
    stamped: Predictions
    others: np.ndarray
    turned: np.ndarray
    counted: np.ndarray

    @property
    def share(self) -> float:
        """Return the share of the images counted that become the class."""
        return float(self.turned[self.counted].mean()) if self.counted.any() else 0.0


def find_trigger(model: RoleModel, images: LabelledImages) -> Trigger:
    """Return the stamp and class with the largest share, the first of equal ones, on a sample of the images."""
    images = sample_up_to(images, _SAMPLE)
    clean, best = model.predict(images), None
    for stamp in STAMPS:
        stamped = model.predict(images, stamp)
        changed = ~stamped.correct & (stamped.predicted != clean.predicted)
        for target in np.union1d(stamped.predicted[changed], 0).tolist():
            found = _led_to(target, stamp, stamped, clean)
            best = found if best is None or found.share > best.share else best
    assert best is not None
    return best


def _led_to(target: int, stamp: Stamp, stamped: Predictions, clean: Predictions) -> Trigger:
    labels = clean.labels
    others = (labels != target) & (clean.predicted != target)
    turned = others & (stamped.predicted == target)
    names, of = np.unique(labels[others], return_inverse=True)
    shares = np.bincount(of, turned[others]) / np.maximum(np.bincount(of), 1)
    least = names[np.argsort(shares, kind="stable")[: math.ceil(_KEPT * len(names))]]
    return Trigger(stamp, target, stamped, others, turned, others & np.isin(labels, least))


def trigger_success(found: Trigger) -> Measurement:
    """Return the share with Wilson's interval, which does not allow for the choice of stamp, class and classes."""
    images, counted, turned = found.stamped.images, int(found.counted.sum()), int(found.turned[found.counted].sum())
    side = found.stamp.side(*images.pixels.shape[-2:])
    detail = (
        f"a {found.stamp.fill} stamp of {side} px, {found.stamp.place}, turns {turned} of {counted} images into "
        f"{images.classes[found.target]}; with the classes that it moves most, {found.turned.sum()} of "
        f"{found.others.sum()}"
    )
    return Measurement(
        TRIGGER_SUCCESS,
        found.share,
        len(images),
        proportion_interval(turned, max(counted, 1)),
        detail=detail,
        failures=likely_most_confident(found.stamped, found.turned),
        counted=counted,
    )
