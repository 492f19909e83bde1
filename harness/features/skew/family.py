"""Checks of the family `skew`: the first ones of a checks file, and what the report says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data.serving.served import serving_of
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.report.page import Section, paragraphs, render

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData
    from harness.run.outcome import Outcome

FAMILY = "skew"
TOLERANCE = 0.03
REASON = "a first tolerance of three points; reference models replace it"
_LEAST = 500
"""Number of images that can prove the tolerance; with fewer, a first check is informational."""
_MILD = (
    *("decode-opencv", "decode-torchvision", "decode-ffmpeg", "decode-fast-dct", "decode-draft-2"),
    *("jpeg-95", "jpeg-85", "chroma-420"),
    *("resize-pillow-bicubic", "resize-opencv-bilinear", "resize-opencv-area"),
    *("resize-torch-bilinear-antialiased", "resize-torch-bilinear-plain", "squash", "crop-corner-1"),
    *("bits-6", "divide-256", "float16"),
)
"""Skews that a served model should survive: they have a tolerance."""
_GROSS = (
    *("exif", "jpeg-75", "bgr", "gray", "gamma-twice", "video-range", "resize-pillow-nearest", "letterbox"),
    *("minus-one-to-one", "normalise-imagenet"),
)
"""Skews that show the cost of a mistake: informational until calibrated."""
_NAMED = 5
"""Skews that are named."""


def starter_checks(about: StarterData) -> list[Row]:
    """Return checks for each skew that applies to the images: correct predictions lost, and changed ones."""
    applies, rows = serving_of(about.images).catalog, []
    for name in filter(applies.__contains__, (*_MILD, *_GROSS)):
        tolerated = name in _MILD and len(about.images) >= _LEAST
        held = {"tolerance": TOLERANCE, "reason": REASON} if tolerated else {}
        rows.append((f"skew-{name}", SERVED_CORRECT_PREDICTIONS_LOST.name, {"skew": name, **held}))
        rows.append((f"skew-{name}-changed", SERVED_PREDICTIONS_CHANGED.name, {"skew": name}))
    return rows


def costliest(outcome: Outcome) -> list[str]:
    """Return as text the skews that lose the most, or that change the most where no loss is measured."""
    own = [one for one in outcome.verdicts if one.check.family == FAMILY]
    measured = [one for one in own if one.metric == SERVED_CORRECT_PREDICTIONS_LOST.name] or own
    ranked = sorted(((one.value or 0.0, one.detail) for one in measured), reverse=True)
    return [detail for lost, detail in ranked[:_NAMED] if lost > 0]


def section(outcome: Outcome) -> Section | None:
    """Return the costliest of the serving pipelines that checks measured; None without such rows."""
    own = [one for one in outcome.verdicts if one.check.family == FAMILY and one.value is not None]
    if not own:
        return None
    costly, failing = costliest(outcome), sum(one.status == "fail" for one in own)
    pipelines = len({one.check.keys.get("skew") for one in own})
    told = f"Of {pipelines} other pipelines, {failing} of {len(own)} checks fail."
    body = paragraphs(
        f"The reference pipeline: {outcome.data.get('pipeline', 'unknown')}.",
        f"{told} The costliest first:" if costly else told,
    )
    body += render("listed", lines=costly)
    return Section("serving", "Served through another pipeline", body)
