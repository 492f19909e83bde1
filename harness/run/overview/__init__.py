"""Comparison of models for the report: accuracy under poses, confusions, calibration, attention, training.

A module here for each part: its record, the function that measures it, and the `Part` of both.
"""

from harness.run.overview.clean import CONFIDENT, Clean, Labels, ReliabilityBin, reliability
from harness.run.overview.failing import Changes, Failing, KindChange, KindCount
from harness.run.overview.looking import Looking, OnObject
from harness.run.overview.measure import measure_overview, overview_of
from harness.run.overview.mistakes import Mistake, Reference
from harness.run.overview.part import TELLING, Part, Rate, Subject
from harness.run.overview.posed import Moved, RobustAccuracy, Shifted, Survival, Surviving, Turned
from harness.run.overview.results import PARTS, ModelOverview, Overview
from harness.run.overview.training import Training

__all__ = [
    "CONFIDENT",
    "PARTS",
    "TELLING",
    "Changes",
    "Clean",
    "Failing",
    "KindChange",
    "KindCount",
    "Labels",
    "Looking",
    "Mistake",
    "ModelOverview",
    "Moved",
    "OnObject",
    "Overview",
    "Part",
    "Rate",
    "Reference",
    "ReliabilityBin",
    "RobustAccuracy",
    "Shifted",
    "Subject",
    "Survival",
    "Surviving",
    "Training",
    "Turned",
    "measure_overview",
    "overview_of",
    "reliability",
]
