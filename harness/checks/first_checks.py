"""First checks of a new gate, by family."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count, product
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
        return "\n".join(
            ["[[check]]", *(f"{key} = {in_toml(value)}" for key, value in entries.items())]
        )


def slugs(names: Sequence[str], *, kind: str = "class") -> dict[str, str]:
    """Return a short, unique name for ids by each full name; names with the same spelling get a number.

    A name without a usable character becomes its `kind` and number, for example `class-3`.
    """
    spelt = [
        re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST].rstrip("-") for name in names
    ]
    found = [slug or f"{kind}-{at}" for at, slug in enumerate(spelt)]
    times = Counter(found)
    named, taken = {}, {slug for slug in found if times[slug] == 1}
    for at, (name, slug) in enumerate(zip(names, found, strict=True)):
        named[name] = slug if times[slug] == 1 else _untaken(slug, taken, start=at)
        taken.add(named[name])
    return named


def _untaken(name: str, taken: Container[str], *, start: int) -> str:
    return next(each for number in count(start) if (each := f"{name}-{number}") not in taken)


def with_ids_apart(checks: Iterable[StarterCheck]) -> tuple[StarterCheck, ...]:
    """Return the checks with unique ids: a repeated id gets a number."""
    apart: dict[str, StarterCheck] = {}
    for check in checks:
        name = check.id if check.id not in apart else _untaken(check.id, apart, start=2)
        apart[name] = replace(check, id=name)
    return tuple(apart.values())


@dataclass(frozen=True)
class StarterData:
    """The images and options that the checks of a first checks file depend on."""

    images: LabelledImages
    pairs: tuple[tuple[str, str], ...]
    min_accuracy: float | None
    declared: AugmentationRange | None = None
    """The augmentation range of the project; None if it declares none."""
    model: RoleModel | None = None
    """A model that thresholds by hand must pass; without one, checks have none that it could fail."""

    @property
    def slugs(self) -> dict[str, str]:
        """Return the name of each class in ids; classes with the same spelling there get a number."""
        return slugs(self.images.classes)

    @property
    def augmentation(self) -> AugmentationRange:
        """Return the range of first checks: the declared one, or else one by the size of the images."""
        if self.declared is not None:
            return self.declared
        height, width = self.images.pixels.shape[2:]
        right, down = (float(max(1, round(_SHARE * side))) for side in (width, height))
        return AugmentationRange(_DEGREES, right, down, flip=True)


def always(*rows: tuple[Any, ...]) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes these checks for any images; further entries may be left out."""
    return lambda _: [(name, metric, more[0] if more else {}) for name, metric, *more in rows]


def clean(about: StarterData) -> list[Row]:
    """Return the check of clean accuracy, with the threshold by hand."""
    by_hand = {"hand": {"threshold": about.min_accuracy, "reason": UNTIL_CALIBRATED}}
    return [("clean", "accuracy", {} if about.min_accuracy is None else by_hand)]


def of_each_class(
    prefix: str, metric: str, *, least: int = 1
) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes a check of the metric for each class, of at least so many."""
    return lambda about: [
        (f"{prefix}-{slug}", metric, {"class": name})
        for name, slug in about.slugs.items()
        if len(about.slugs) >= least
    ]


def poses(family: str) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes checks of a family's angles, directions or corners of the augmentation range."""

    def rows(about: StarterData) -> list[Row]:
        metric = "accuracy_gain" if family == "gain" else "accuracy"
        return [
            (name, metric, {"pose": _pose(*pose)})
            for name, pose in _POSES[family](about.augmentation).items()
        ]

    return rows


_Named = dict[str, tuple[float, float, float]]
"""Poses by the id of their check: degrees, pixels right and down."""


def _rotations(within: AugmentationRange) -> _Named:
    degrees = [within.rotate * share for share in (-1, -0.5, 0.5, 1)] if within.rotate else []
    return {f"rotate-{_way(angle)}": (angle, 0, 0) for angle in degrees}


def _shifts(within: AugmentationRange) -> _Named:
    right, down = within.shift_x, within.shift_y
    sides: _Named = {
        f"shift-right-{right:g}": (0, right, 0),
        f"shift-left-{right:g}": (0, -right, 0),
    }
    height: _Named = {f"shift-down-{down:g}": (0, 0, down), f"shift-up-{down:g}": (0, 0, -down)}
    return {**(sides if right else {}), **(height if down else {})}


def _corners(within: AugmentationRange) -> _Named:
    """Return the corners of a range with several axes."""
    limits = (within.rotate, within.shift_y, within.shift_x)
    if sum(limit > 0 for limit in limits) < 2:  # noqa: PLR2004  One axis has checks of its own.
        return {}
    found: _Named = {}
    for degrees, dy, dx in product(*((limit, -limit) if limit else (0.0,) for limit in limits)):
        parts = [_way(degrees)] if degrees else []
        parts += ["down" if dy > 0 else "up"] if dy else []
        parts += ["right" if dx > 0 else "left"] if dx else []
        found[f"pose-{'-'.join(parts)}"] = (degrees, dx, dy)
    return found


def _gains(within: AugmentationRange) -> _Named:
    degrees = (within.rotate, -within.rotate) if within.rotate else ()
    return {f"gain-{_way(angle)}": (angle, 0, 0) for angle in degrees}


_POSES: dict[str, Callable[[AugmentationRange], _Named]] = {
    "rotation": _rotations,
    "shift": _shifts,
    "pose": _corners,
    "gain": _gains,
}


def flip(about: StarterData) -> list[Row]:
    """Return checks of flipped images, if the augmentation range has flips."""
    return (
        [("flip", "accuracy", {}), ("flip-invariance", "invariance", {})]
        if about.augmentation.flip
        else []
    )


def pairs(about: StarterData) -> list[Row]:
    """Return a check of each confusable pair."""
    return [
        (f"pair-{about.slugs[one]}-{about.slugs[two]}", "pair_failures", {"pair": [one, two]})
        for one, two in about.pairs
    ]


def search(about: StarterData) -> list[Row]:
    """Return checks of the searches for a worst pose, of a range with some."""
    about_range = about.augmentation
    if not about_range.moves:
        return []
    within = {"within": _pose(about_range.rotate, about_range.shift_x, about_range.shift_y)}
    path = "rotation" if about_range.rotate else "shift"
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
    """Return checks for each kind of images of no class: AUROC by every score, and FPR95 by energy."""
    measured = [("", UNKNOWN_AUROC, score) for score in SCORES] + [
        ("fpr95-", UNKNOWN_FPR95, "energy")
    ]
    return [
        (f"unknown-{kind}-{prefix}{score}", metric.name, {"unknown": kind, "score": score})
        for kind in (*UNFAMILIAR, ELSEWHERE)
        for prefix, metric, score in measured
    ]


def _way(degrees: float) -> str:
    return f"{'ccw' if degrees > 0 else 'cw'}-{abs(degrees):03g}"


def _pose(degrees: float, dx: float, dy: float) -> dict[str, float]:
    return {
        name: whole(value)
        for name, value in (("degrees", degrees), ("dx", dx), ("dy", dy))
        if value
    }
