"""The metric of weight statistics.

It is apart from its function, so that reading a checks file needs no PyTorch.
"""

from __future__ import annotations

from harness.measures.metric import Metric, Unit

WEIGHT_DISTANCE = Metric(
    "weight_distance",
    Unit.SCORE,
    better="less",
    words="logarithm of the distance of weight statistics from reference models",
    about="logarithm of the distance of weight statistics from those of reference models, in "
    "standard deviations",
    range=(-40.0, 40.0),
)
