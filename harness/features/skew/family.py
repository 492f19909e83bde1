"""Checks of the family `skew`: the first ones of a checks file, and their part of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError, NotApplicableError
from harness.base.progress import Progress
from harness.checks.tolerance import ToleranceTest
from harness.data import sample_up_to
from harness.data.serving import serving_of
from harness.features.skew.measures import (
    SERVED_CORRECT_PREDICTIONS_LOST,
    SERVED_PREDICTIONS_CHANGED,
    served_correct_predictions_lost,
)
from harness.report.page import Section, paragraphs, render

if TYPE_CHECKING:
    from harness.checks.first_checks import Row, StarterData
    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.run.outcome import Outcome

FAMILY = "skew"
TOLERANCE = 0.03
REASON = "a first tolerance of three points; reference models replace it"
_LEAST, _MOST = 500, 1_000
"""Number of images that can prove the tolerance, and of those that a given model is tried on."""
_NEAR = TOLERANCE / 3
"""Largest loss of a given model for a tolerance: how much other healthy models lose is not known
yet.
"""
_MILD = (
    *("decode-opencv", "decode-torchvision", "decode-ffmpeg", "decode-fast-dct", "decode-draft-2"),
    *("jpeg-95", "jpeg-85", "chroma-420"),
    *("resize-pillow-bicubic", "resize-opencv-bilinear", "resize-opencv-area"),
    *("resize-torch-bilinear-antialiased", "resize-torch-bilinear-plain"),
    *("bits-6", "divide-256", "float16"),
)
"""Skews that a served model should survive: they have a tolerance if a given model keeps it."""
_GROSS = (
    *(
        "exif",
        "jpeg-75",
        "bgr",
        "gray",
        "gamma-twice",
        "video-range",
        "resize-pillow-nearest",
        "letterbox",
    ),
    *("squash", "crop-corner-1", "minus-one-to-one", "normalise-imagenet"),
)
"""Skews that show the cost of a mistake, or that healthy models survive differently: informational
until calibrated.
"""
_NAMED = 5
"""Skews that are named."""


def starter_checks(about: StarterData) -> list[Row]:
    """Return checks for each skew that applies to the images.

    Correct predictions lost, and changed ones.
    """
    applies, rows = serving_of(about.images).catalog, []
    mild = tuple(filter(applies.__contains__, _MILD))
    survived = _survived(about.model, about.images, mild) if about.model else set[str]()
    for name in (*mild, *filter(applies.__contains__, _GROSS)):
        held = {"tolerance": TOLERANCE, "reason": REASON} if name in survived else {}
        rows.append((f"skew-{name}", SERVED_CORRECT_PREDICTIONS_LOST.name, {"skew": name, **held}))
        rows.append((f"skew-{name}-changed", SERVED_PREDICTIONS_CHANGED.name, {"skew": name}))
    return rows


def _survived(model: RoleModel, images: LabelledImages, names: tuple[str, ...]) -> set[str]:
    """Return the skews at which a model keeps the tolerance, and with some distance.

    None on few images.
    """
    from harness.features.skew.serving import under_skew

    if len(images) < _LEAST:
        return set()
    some, survived = sample_up_to(images, _MOST), set[str]()
    for name in Progress(names, unit="skew", desc="serving through other pipelines", delay=2):
        try:
            skewed = under_skew(model, some, name)
        except (InputError, NotApplicableError):  # A predictor may take no such pixels.
            continue
        measured = served_correct_predictions_lost(skewed.served, skewed.reference)
        equal = ToleranceTest(measured, TOLERANCE, len(names)).outcome == "equal"
        if equal and measured.value <= _NEAR:
            survived.add(name)
    return survived


def costliest(outcome: Outcome) -> list[str]:
    """Return as text the skews that lose the most.

    Where no loss is measured, they are those that change the most.
    """
    own = [one for one in outcome.results.verdicts if one.check.family == FAMILY]
    measured = [one for one in own if one.metric == SERVED_CORRECT_PREDICTIONS_LOST.name] or own
    ranked = sorted(((one.value or 0.0, one.detail) for one in measured), reverse=True)
    return [detail for lost, detail in ranked[:_NAMED] if lost > 0]


def section(outcome: Outcome) -> Section | None:
    """Return the costliest of the serving pipelines that checks measured.

    None without such rows.
    """
    own = [
        one
        for one in outcome.results.verdicts
        if one.check.family == FAMILY and one.value is not None
    ]
    if not own:
        return None
    costly, failing = costliest(outcome), sum(one.status == "fail" for one in own)
    pipelines = len({one.check.keys.get("skew") for one in own})
    told = f"Of {pipelines} other pipelines, {failing} of {len(own)} checks fail."
    body = paragraphs(
        f"The reference pipeline: {outcome.inputs.data.get('pipeline', 'unknown')}.",
        f"{told} The costliest first:" if costly else told,
    )
    body += render("listed", lines=costly)
    return Section(
        "serving", "Served through another pipeline", body, before="differing_predictions"
    )
