"""The perturbation and the metric: how many predictions change in less light."""

from dataclasses import dataclass

import numpy as np

from harness.measures import Metric, Unit
from harness.measures.metric import share_of

CHANGED_IN_THE_DARK = Metric(
    "changed_in_the_dark",
    Unit.SHARE,
    better="less",
    words="predictions that change in the dark",
)


@dataclass(frozen=True)
class Darkened:
    """A perturbation that leaves this share of the light."""

    light: float

    def __call__(self, images):
        """Return the images (N, C, H, W) in [0, 1], darker."""
        return images * self.light


def changed_in_the_dark(dark, clean):
    """Return the share of images with another prediction in the dark, in [0, 1]."""
    changed = dark.predicted != clean.predicted
    return share_of(
        CHANGED_IN_THE_DARK, changed, images=dark.images, failures=np.flatnonzero(changed)
    )
