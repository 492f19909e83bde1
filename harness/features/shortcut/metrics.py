"""The metric of shortcuts, apart from its function: reading a checks file looks it up without PyTorch."""

from __future__ import annotations

from harness.measures.metric import Metric, Unit

SHORTCUT_PULL = Metric(
    "shortcut_pull",
    Unit.SCORE,
    better="less",
    words="largest excess of a mark's pull over reference models",
    about="largest excess of a mark's pull towards a class over that of reference models, in their standard deviations",
    range=(-40.0, 1_000.0),
    heavy_tailed=True,
    about_one=True,
    of_probabilities=True,
    names_cause=True,
)
