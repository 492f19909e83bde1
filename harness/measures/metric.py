"""One number about a model: what it measures, and the measurement itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from harness.measures.flips import Flips

Unit = Literal["share", "difference", "images", "degrees", "pixels", "factor", "score"]


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a model, measured on `n` images, with its 95% confidence interval.

    `unit` is a share in [0, 1], a difference of shares in [-1, 1], a number of images, a severity, a factor, or a score
    of which 0 is perfect. `detail` says in a few words what is behind the number. `failures` are the positions, in the
    predictions, of the images to show for it, the most telling first. A comparison of two models has the `p_value` of
    no difference, and the `flips` behind.
    """

    metric: str
    value: float
    n: int
    interval: tuple[float, float]
    unit: Unit = "share"
    detail: str = ""
    failures: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    p_value: float | None = None
    flips: Flips | None = None
