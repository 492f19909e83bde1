"""The golden set as a part of the page: each image with its picture, its prediction, and why it matters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.golden import GOLDEN
from harness.report.gallery import thumbnails
from harness.report.page import Section, folded, paragraphs, table
from harness.report.tables import SIGNS
from harness.run.outcome import worst_first

if TYPE_CHECKING:
    from harness.run.outcome import Outcome

_PICTURED = 48
"""Images with a picture on the page, wrong ones first."""


def golden(outcome: Outcome) -> Section | None:
    """Return the golden images, wrong ones first; None without golden images."""
    verdicts = worst_first(tuple(one for one in outcome.verdicts if one.check.family == GOLDEN))
    if not verdicts:
        return None
    shown = [
        (outcome.thumbnails[one.check.id], one.check.id, one.check.class_name or "", SIGNS[one.status])
        for one in verdicts[:_PICTURED]
        if one.check.id in outcome.thumbnails
    ]
    rows = [
        (one.check.id, SIGNS[one.status], one.detail, one.check.hand.date if one.check.hand else "") for one in verdicts
    ]
    failed = sum(not one.passed for one in verdicts)
    lead = f"{len(verdicts) - failed} of {len(verdicts)} images that must never be wrong again are correct."
    pictures = thumbnails(f"{len(shown)} of {len(verdicts)} golden images", shown)
    results = folded("Results, and the reason for each image", table(("image", "result", "found", "added"), rows))
    return Section("golden", "Golden set", paragraphs(lead) + pictures + results)
