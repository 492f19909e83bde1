"""First checks of serving skew: predictions lost to another serving pipeline, for the skews that apply to the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.checks.starter_check import StarterCheck, in_toml
from harness.data.serving.served import serving_of
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED

if TYPE_CHECKING:
    from harness.data import LabelledImages

SKEW = "skew"
"""The family of these checks."""
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


def skew_checks(images: LabelledImages) -> list[StarterCheck]:
    """Return first checks for each skew that applies to these images: correct predictions lost, and changed ones."""
    applies = serving_of(images).catalog
    checks = []
    for name in filter(applies.__contains__, (*_MILD, *_GROSS)):
        tolerated = name in _MILD and len(images) >= _LEAST
        held = (f"tolerance = {TOLERANCE}", f"reason = {in_toml(REASON)}") if tolerated else ()
        skew = f"skew = {in_toml(name)}"
        checks.append(StarterCheck(f"{SKEW}-{name}", SKEW, SERVED_CORRECT_PREDICTIONS_LOST.name, (skew, *held)))
        checks.append(StarterCheck(f"{SKEW}-{name}-changed", SKEW, SERVED_PREDICTIONS_CHANGED.name, (skew,)))
    return checks
