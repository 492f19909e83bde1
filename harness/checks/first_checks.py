"""The checks of a first checks file, by family: id, metric and further entries in TOML."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from harness.checks.check import UNTIL_CALIBRATED
from harness.checks.starter_check import in_toml, slugs
from harness.data.serving.served import serving_of
from harness.measures.serving import SERVED_CORRECT_PREDICTIONS_LOST, SERVED_PREDICTIONS_CHANGED
from harness.measures.unknown import SCORES, UNKNOWN_AUROC, UNKNOWN_FPR95
from harness.perturb.corruptions import SHIPPED
from harness.perturb.unfamiliar import UNFAMILIAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages

Row = tuple[str, ...]
"""The id of a check, its metric, and further entries in TOML, such as `class = "a"`."""
ELSEWHERE = "elsewhere"
"""In checks of images of no class: the images that the setting `unknown` names."""
_DEGREES = (-10, -5, 5, 10)
_SHARE = 0.07
"""Translation as a share of the image size: 2 of 28 pixels."""
_SEVERITY = 3
"""Severity of corruptions, the middle of five."""
SKEW_TOLERANCE = 0.03
SKEW_REASON = "a first tolerance of three points; reference models replace it"
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


@dataclass(frozen=True)
class StarterData:
    """The images and options that the checks of a first checks file depend on."""

    images: LabelledImages
    pairs: tuple[tuple[str, str], ...]
    min_accuracy: float | None

    @property
    def slugs(self) -> dict[str, str]:
        """Return the name of each class in ids; classes with the same spelling there get a number."""
        return slugs(self.images.classes)

    @property
    def shift(self) -> tuple[int, int]:
        """Return the translation to the right and down, in pixels."""
        height, width = self.images.pixels.shape[2:]
        return max(1, round(_SHARE * width)), max(1, round(_SHARE * height))


def clean(about: StarterData) -> list[Row]:
    """Return the check of clean accuracy, with the threshold by hand."""
    by_hand = f'hand = {{ threshold = {about.min_accuracy}, reason = "{UNTIL_CALIBRATED}" }}'
    return [("clean", "accuracy", *(() if about.min_accuracy is None else (by_hand,)))]


def of_each_class(prefix: str, metric: str, *, least: int = 1) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes a check of the metric for each class, of at least so many."""
    return lambda about: [
        (f"{prefix}-{slug}", metric, f"class = {in_toml(name)}")
        for name, slug in about.slugs.items()
        if len(about.slugs) >= least
    ]


def poses(about: StarterData) -> dict[str, list[Row]]:
    """Return checks of each angle, of each direction, and of each corner of the augmentation range, by family."""
    (right, down), (*_, left_turn), right_turn = about.shift, _DEGREES, _DEGREES[0]
    moved = {
        f"shift-right-{right}": _pose(dx=right),
        f"shift-left-{right}": _pose(dx=-right),
        f"shift-down-{down}": _pose(dy=down),
        f"shift-up-{down}": _pose(dy=-down),
    }
    corners = {
        f"pose-{_way(degrees)}-{'down' if dy > 0 else 'up'}-{'right' if dx > 0 else 'left'}": _pose(
            degrees=degrees, dx=dx, dy=dy
        )
        for degrees, dy, dx in product((left_turn, right_turn), (down, -down), (right, -right))
    }
    turned = {f"rotate-{_way(degrees)}": _pose(degrees=degrees) for degrees in _DEGREES}
    by_family = {"rotation": turned, "shift": moved, "pose": corners}
    return {name: [(each, "accuracy", pose) for each, pose in found.items()] for name, found in by_family.items()}


def pairs(about: StarterData) -> list[Row]:
    """Return a check of each confusable pair."""
    named = [(f"pair-{about.slugs[one]}-{about.slugs[two]}", in_toml([one, two])) for one, two in about.pairs]
    return [(name, "pair_failures", f"pair = {pair}") for name, pair in named]


def gain(_: StarterData) -> list[Row]:
    """Return checks of the largest angles."""
    return [(f"gain-{_way(at)}", "accuracy_gain", _pose(degrees=at)) for at in (_DEGREES[-1], _DEGREES[0])]


def search(about: StarterData) -> list[Row]:
    """Return checks of the searches for a worst pose."""
    right, down = about.shift
    within = _pose("within", degrees=_DEGREES[-1], dx=right, dy=down)
    return [
        ("drawn-pose", "accuracy", within),
        ("drawn-pose-unchanged", "unchanged_share", within),
        ("worst-pose-augmentation-range", "robust_accuracy", 'grid = "augmentation-range"'),
        ("break-rotation-median", "breaking_severity", 'path = "rotation"', "share_broken = 0.5"),
    ]


def corruption(_: StarterData) -> list[Row]:
    """Return a check of each shipped corruption."""
    severity = f"severity = {_SEVERITY}"
    return [(f"corrupt-{name}-{_SEVERITY}", "accuracy", f"corruption = {in_toml(name)}", severity) for name in SHIPPED]


def skew(about: StarterData) -> list[Row]:
    """Return checks for each skew that applies to the images: correct predictions lost, and changed ones."""
    applies, rows = serving_of(about.images).catalog, []
    for name in filter(applies.__contains__, (*_MILD, *_GROSS)):
        tolerated = name in _MILD and len(about.images) >= _LEAST
        held = (f"tolerance = {SKEW_TOLERANCE}", f"reason = {in_toml(SKEW_REASON)}") if tolerated else ()
        rows.append((f"skew-{name}", SERVED_CORRECT_PREDICTIONS_LOST.name, f"skew = {in_toml(name)}", *held))
        rows.append((f"skew-{name}-changed", SERVED_PREDICTIONS_CHANGED.name, f"skew = {in_toml(name)}"))
    return rows


def unknown(_: StarterData) -> list[Row]:
    """Return checks for each kind of images of no class: AUROC by every score, and FPR95 by energy."""
    return [
        (
            f"unknown-{kind}-{'fpr95-' if metric is UNKNOWN_FPR95 else ''}{score}",
            metric.name,
            f"unknown = {in_toml(kind)}",
            f"score = {in_toml(score)}",
        )
        for kind in (*UNFAMILIAR, ELSEWHERE)
        for metric, scores in ((UNKNOWN_AUROC, SCORES), (UNKNOWN_FPR95, ("energy",)))
        for score in scores
    ]


def _way(degrees: int) -> str:
    return f"{'ccw' if degrees > 0 else 'cw'}-{abs(degrees):03}"


def _pose(key: str = "pose", *, degrees: int = 0, dx: int = 0, dy: int = 0) -> str:
    named = {"degrees": degrees, "dx": dx, "dy": dy}
    return f"{key} = {in_toml({name: value for name, value in named.items() if value})}"
