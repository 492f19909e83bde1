"""The metric of shortcuts, apart from its function: reading a checks file looks it up without PyTorch."""

from __future__ import annotations

from harness.measures.metric import Metric, Unit

SHORTCUT_PULL = Metric(
    "shortcut_pull",
    Unit.SCORE,
    better="less",
    words="largest pull of a mark towards a class",
    about="largest pull of a mark towards a class, in standard deviations of reference models",
    range=(-40.0, 1_000.0),
    heavy_tailed=True,
    about_one=True,
    of_probabilities=True,
    names_cause=True,
)
