"""What the report compares between models: accuracy under pose, confusions, calibration, attention, training."""

from harness.perturb.covering import SIDES, Covered
from harness.run.overview.measure import CONFIDENT, measure_overview, overview_of, reliability
from harness.run.overview.results import (
    Changes,
    KindChange,
    KindCount,
    ModelOverview,
    OnObject,
    Overview,
    Rate,
    ReliabilityBin,
    Survival,
)

__all__ = [
    "CONFIDENT",
    "SIDES",
    "Changes",
    "Covered",
    "KindChange",
    "KindCount",
    "ModelOverview",
    "OnObject",
    "Overview",
    "Rate",
    "ReliabilityBin",
    "Survival",
    "measure_overview",
    "overview_of",
    "reliability",
]
