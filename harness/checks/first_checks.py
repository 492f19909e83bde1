"""First checks of a new gate, by family."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from harness.checks.tables import UNTIL_CALIBRATED, in_toml
from harness.data.domain import AugmentationRange, whole
from harness.measures.unknown import SCORES, UNKNOWN_AUROC, UNKNOWN_FPR95
from harness.perturb.corruptions import SHIPPED
from harness.perturb.unfamiliar import UNFAMILIAR

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from harness.data import LabelledImages
    from harness.inference import RoleModel

Row = tuple[str, str, dict[str, Any]]
"""The id of a check, its metric, and further entries, such as `class`."""
ELSEWHERE = "elsewhere"
"""In checks of images of no class: the images that the setting `unknown` names."""
_LONGEST = 80
"""Most characters for the name of a class or group; an id may hold two such names."""
_DEGREES = 10.0
"""Rotation of a project that declares no augmentation range."""
_SHARE = 0.07
"""Translation of such a project, as a share of the image size: 2 of 28 pixels."""
_SEVERITY = 3
"""Severity of corruptions, the middle of five."""


@dataclass(frozen=True)
class StarterCheck:
    """A check of a first checks file: id, family, metric, and more entries, such as `class`."""

    id: str
    family: str
    metric: str
    more: Mapping[str, object]

    def as_toml(self) -> str:
        """Return the check's table."""
        entries = {"id": self.id, "family": self.family, "metric": self.metric, **self.more}
        lines = [f"{key} = {in_toml(value)}" for key, value in entries.items()]
        return "\n".join(["[[check]]", *lines])


def slugs(names: Sequence[str], *, kind: str = "class") -> dict[str, str]:
    """Return a short, unique name for ids by each full name.

    Names with the same spelling get a number. A name without a usable character becomes its `kind`
    and number, for example `class-3`.
    """
    spellings = [_slug(name) or f"{kind}-{number}" for number, name in enumerate(names)]
    counts = Counter(spellings)
    taken = {spelling for spelling, count in counts.items() if count == 1}
    slugs_by_name: dict[str, str] = {}
    for number, (name, spelling) in enumerate(zip(names, spellings, strict=True)):
        is_repeated = counts[spelling] > 1
        slug = _untaken(spelling, taken, start=number) if is_repeated else spelling
        taken.add(slug)
        slugs_by_name[name] = slug
    return slugs_by_name


def _slug(name: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return words[:_LONGEST].rstrip("-")


def _untaken(name: str, taken: Container[str], *, start: int) -> str:
    """Return the name with the first number from `start` that makes it unique."""
    number = start
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


def with_ids_apart(checks: Iterable[StarterCheck]) -> tuple[StarterCheck, ...]:
    """Return the checks with unique ids: a repeated id gets a number."""
    checks_by_id: dict[str, StarterCheck] = {}
    for check in checks:
        check_id = check.id
        if check_id in checks_by_id:
            check_id = _untaken(check_id, checks_by_id, start=2)
        checks_by_id[check_id] = replace(check, id=check_id)
    return tuple(checks_by_id.values())


@dataclass(frozen=True)
class StarterData:
    """The images and options that the checks of a first checks file depend on."""

    images: LabelledImages
    pairs: tuple[tuple[str, str], ...]
    min_accuracy: float | None
    declared: AugmentationRange | None = None
    """The augmentation range of the project; None if it declares none."""
    model: RoleModel | None = None
    """A model that must pass thresholds by hand; without one, no check has a threshold by hand."""

    @property
    def slugs(self) -> dict[str, str]:
        """Return the name of each class in ids."""
        return slugs(self.images.classes)

    @property
    def augmentation(self) -> AugmentationRange:
        """Return the declared range, or else one that follows from the size of the images."""
        if self.declared is not None:
            return self.declared
        height, width = self.images.pixels.shape[2:]
        return AugmentationRange(_DEGREES, _translation(width), _translation(height), flip=True)


def _translation(side: int) -> float:
    """Return the translation along a side of the images, in whole pixels."""
    return float(max(1, round(_SHARE * side)))


def always(*rows: tuple[Any, ...]) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes these checks for any images; entries may be left out."""
    return lambda _: [(name, metric, more[0] if more else {}) for name, metric, *more in rows]


def clean(data: StarterData) -> list[Row]:
    """Return the check of clean accuracy, with the threshold by hand."""
    if data.min_accuracy is None:
        return [("clean", "accuracy", {})]
    by_hand = {"threshold": data.min_accuracy, "reason": UNTIL_CALIBRATED}
    return [("clean", "accuracy", {"hand": by_hand})]


def of_each_class(
    prefix: str, metric: str, *, least: int = 1
) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes a check of each class, for data of at least `least` classes."""

    def rows(data: StarterData) -> list[Row]:
        if len(data.slugs) < least:
            return []
        return [(f"{prefix}-{slug}", metric, {"class": name}) for name, slug in data.slugs.items()]

    return rows


def poses(family: str) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes checks of a family's poses within the augmentation range."""

    def rows(data: StarterData) -> list[Row]:
        metric = "accuracy_gain" if family == "gain" else "accuracy"
        return [
            (check_id, metric, {"pose": _pose(*pose)})
            for check_id, pose in _POSES[family](data.augmentation).items()
        ]

    return rows


_PosesById = dict[str, tuple[float, float, float]]
"""Poses by the id of their check: degrees, pixels right and down."""


def _rotations(within: AugmentationRange) -> _PosesById:
    if not within.rotate:
        return {}
    angles = [within.rotate * share for share in (-1, -0.5, 0.5, 1)]
    return {f"rotate-{_way(angle)}": (angle, 0, 0) for angle in angles}


def _shifts(within: AugmentationRange) -> _PosesById:
    right, down = within.shift_x, within.shift_y
    shifts: _PosesById = {}
    if right:
        shifts[f"shift-right-{right:g}"] = (0, right, 0)
        shifts[f"shift-left-{right:g}"] = (0, -right, 0)
    if down:
        shifts[f"shift-down-{down:g}"] = (0, 0, down)
        shifts[f"shift-up-{down:g}"] = (0, 0, -down)
    return shifts


def _corners(within: AugmentationRange) -> _PosesById:
    """Return the corners of a range with several axes."""
    limits = (within.rotate, within.shift_y, within.shift_x)
    axes = [(limit, -limit) if limit else (0.0,) for limit in limits]
    if sum(len(ends) > 1 for ends in axes) < 2:  # noqa: PLR2004  One axis has checks of its own.
        return {}

    corners: _PosesById = {}
    for degrees, dy, dx in product(*axes):
        names: list[str] = []
        if degrees:
            names.append(_way(degrees))
        if dy:
            names.append("down" if dy > 0 else "up")
        if dx:
            names.append("right" if dx > 0 else "left")
        corners[f"pose-{'-'.join(names)}"] = (degrees, dx, dy)
    return corners


def _gains(within: AugmentationRange) -> _PosesById:
    if not within.rotate:
        return {}
    return {f"gain-{_way(angle)}": (angle, 0, 0) for angle in (within.rotate, -within.rotate)}


_POSES: dict[str, Callable[[AugmentationRange], _PosesById]] = {
    "rotation": _rotations,
    "shift": _shifts,
    "pose": _corners,
    "gain": _gains,
}


def flip(data: StarterData) -> list[Row]:
    """Return checks of flipped images, if the augmentation range has flips."""
    if not data.augmentation.flip:
        return []
    return [("flip", "accuracy", {}), ("flip-invariance", "invariance", {})]


def pairs(data: StarterData) -> list[Row]:
    """Return a check of each confusable pair."""
    return [
        (
            f"pair-{data.slugs[first]}-{data.slugs[second]}",
            "pair_failures",
            {"pair": [first, second]},
        )
        for first, second in data.pairs
    ]


def search(data: StarterData) -> list[Row]:
    """Return checks of the searches for a worst pose, if the range has poses."""
    searched = data.augmentation
    if not searched.moves:
        return []
    within = {"within": _pose(searched.rotate, searched.shift_x, searched.shift_y)}
    path = "rotation" if searched.rotate else "shift"
    return [
        ("drawn-pose", "accuracy", within),
        ("drawn-pose-unchanged", "unchanged_share", within),
        ("worst-pose-augmentation-range", "robust_accuracy", {"grid": "augmentation-range"}),
        (f"break-{path}-median", "breaking_severity", {"path": path, "share_broken": 0.5}),
    ]


def corruption(_: StarterData) -> list[Row]:
    """Return a check of each shipped corruption."""
    return [
        (f"corrupt-{name}-{_SEVERITY}", "accuracy", {"corruption": name, "severity": _SEVERITY})
        for name in SHIPPED
    ]


def unknown(_: StarterData) -> list[Row]:
    """Return checks for each kind of images of no class: AUROC of each score, FPR95 of energy."""
    rows: list[Row] = []
    for kind in (*UNFAMILIAR, ELSEWHERE):
        for score in SCORES:
            entries = {"unknown": kind, "score": score}
            rows.append((f"unknown-{kind}-{score}", UNKNOWN_AUROC.name, entries))
        entries = {"unknown": kind, "score": "energy"}
        rows.append((f"unknown-{kind}-fpr95-energy", UNKNOWN_FPR95.name, entries))
    return rows


def _way(degrees: float) -> str:
    """Return an angle in ids, such as `ccw-010`."""
    direction = "ccw" if degrees > 0 else "cw"
    return f"{direction}-{abs(degrees):03g}"


def _pose(degrees: float, dx: float, dy: float) -> dict[str, float]:
    entries = {"degrees": degrees, "dx": dx, "dy": dy}
    return {name: whole(value) for name, value in entries.items() if value}
