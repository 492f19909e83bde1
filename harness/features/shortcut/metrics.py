"""The metric of shortcuts.

It is apart from its function, so that reading a checks file needs no PyTorch.
"""

from __future__ import annotations

from harness.measures.metric import Metric, Unit

SHORTCUT_PULL = Metric(
    "shortcut_pull",
    Unit.SCORE,
    better="less",
    words="largest excess of a mark's pull over reference models",
    about="largest excess of a mark's pull towards a class over that of reference models, in their "
    "standard deviations",
    range=(-40.0, 1_000.0),
    heavy_tailed=True,
    about_one=True,
    of_probabilities=True,
    names_cause=True,
)
