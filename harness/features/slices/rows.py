"""Rows of the family `slices`: those of a first checks file, and that of a slice found by a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.copied import as_row
from harness.measures.panel.predictions import MANY

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData

FAMILY = "slices"


def starter_checks(about: StarterData) -> list[Row]:
    """Return the check of the worst slice, for at most `MANY` classes."""
    return [("slices-worst", "worst_slice", {})] if len(about.images.classes) <= MANY else []


def of_slice(name: str) -> str:
    """Return a row on one slice by its name, without a threshold."""
    return as_row({"id": f"slice-{name}", "family": FAMILY, "metric": "slice_loss", "slice": name})
