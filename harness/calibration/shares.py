"""Division of the 1% of false alarms: each family has a share of it, each check a part of that.

A healthy model fails any of several checks with at most the sum of the probabilities that it fails
each (Bonferroni). Shares and parts therefore add up to the 1%. More weight goes to checks that show
more faults: `benchmarks/detection` compares divisions on some mutants, and confirms the choice on
others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.measures.confidence import NEGATIVE_LOG_LIKELIHOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.measures.panel.threshold import PanelCheck

ALARMS = 0.01
"""Probability that a reference model fails any check."""
CLEAN = "clean"
FAMILIES: Mapping[str, float] = {CLEAN: 8.0, "confidence": 4.0, "fingerprint": 2.0}
"""Weights of families; any other family, also one from outside, has 1."""
LEAST = 24.0
"""Smallest sum of weights: with fewer families, each has the share that it has with this sum.

A new family therefore changes no threshold of the others while the sum is smaller.
"""
METRICS: Mapping[str, float] = {NEGATIVE_LOG_LIKELIHOOD.name: 4.0}
"""Weights of a check within its family, by its metric; any other check has 1."""


def share_of(family: str, families: Iterable[str]) -> float:
    """Return the probability with which a reference model may fail any check of a family.

    Args:
        family: The name of the family.
        families: The names of all families that judge; the family `clean` counts in any case.
    """
    total = sum(FAMILIES.get(name, 1.0) for name in {*families, CLEAN})
    return ALARMS * FAMILIES.get(family, 1.0) / max(total, LEAST)


def parts_of(checks: Sequence[PanelCheck], sharing: Sequence[PanelCheck]) -> np.ndarray:
    """Return the part of each check in the share of its family, (checks,).

    The parts of the checks `sharing` add up to 1.
    """
    total = sum(_weight(check) for check in sharing)
    return np.array([_weight(check) / total for check in checks])


def _weight(check: PanelCheck) -> float:
    return METRICS.get(check.metric, 1.0)
