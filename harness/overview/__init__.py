"""What the report compares between models: accuracy under pose, confusions, calibration, attention, training."""

from harness.overview.measure import CONFIDENT, SIDES, Covered, measure_overview, overview_of, reliability
from harness.overview.results import (
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
