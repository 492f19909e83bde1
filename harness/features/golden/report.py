"""Golden images in the report of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.page import Section, paragraphs
from harness.report.pictures import sheet
from harness.report.wording import SIGNS
from harness.run.margins import worst_first
from harness.run.shown import ROWS_PICTURED, Face

if TYPE_CHECKING:
    from harness.run.outcome import Outcome


def section(outcome: Outcome) -> Section | None:
    """Return the golden images, wrong ones first; None without golden images."""
    verdicts = worst_first(
        tuple(one for one in outcome.results.verdicts if one.check.family == "golden")
    )
    if not verdicts:
        return None
    faces = []
    for one in verdicts[:ROWS_PICTURED]:
        name, true, sign = one.check.id, one.check.class_name or "", SIGNS[one.status]
        if (image := outcome.images.thumbnails.get(name)) is not None:
            faces.append(
                Face(image, true, sign, name, f"{name}: {true}, {sign}", wrong=not one.passed)
            )
    correct = sum(one.passed for one in verdicts)
    lead = (
        f"{correct} of {len(verdicts)} images that must never be wrong again are correct; reasons "
        "are in All checks."
    )
    return Section("golden", "Golden set", paragraphs(lead) + sheet("", faces), before="slices")
