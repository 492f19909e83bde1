"""First checks of a new gate, by family, and the packaged stress tests that measure them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import PackageError
from harness.checks.tables import UNTIL_CALIBRATED, in_toml
from harness.measures.unknown import SCORES, UNKNOWN_AUROC, UNKNOWN_FPR95
from harness.perturb.corruptions import SHIPPED
from harness.perturb.unfamiliar import UNFAMILIAR

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from harness.data import LabelledImages

_PACKAGE = Path(__file__).parents[1]
Row = tuple[str, str, dict[str, Any]]
"""The id of a check, its metric, and further entries, such as `class`."""
ELSEWHERE = "elsewhere"
"""In checks of images of no class: the images that the setting `unknown` names."""
_LONGEST = 80
"""Most characters for the name of a class or group; an id may hold two such names."""
_DEGREES = (-10, -5, 5, 10)
_SHARE = 0.07
"""Translation as a share of the image size: 2 of 28 pixels."""
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
        return "\n".join(["[[check]]", *(f"{key} = {in_toml(value)}" for key, value in entries.items())])


def slugs(names: Sequence[str], *, kind: str = "class") -> dict[str, str]:
    """Return a short, unique name for ids by each full name; names with the same spelling get a number.

    A name without a usable character becomes its `kind` and number, for example `class-3`.
    """
    spelt = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST].rstrip("-") for name in names]
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

    @property
    def slugs(self) -> dict[str, str]:
        """Return the name of each class in ids; classes with the same spelling there get a number."""
        return slugs(self.images.classes)

    @property
    def shift(self) -> tuple[int, int]:
        """Return the translation to the right and down, in pixels."""
        height, width = self.images.pixels.shape[2:]
        return max(1, round(_SHARE * width)), max(1, round(_SHARE * height))


def always(*rows: tuple[Any, ...]) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes these checks for any images; further entries may be left out."""
    return lambda _: [(name, metric, more[0] if more else {}) for name, metric, *more in rows]


def clean(about: StarterData) -> list[Row]:
    """Return the check of clean accuracy, with the threshold by hand."""
    by_hand = {"hand": {"threshold": about.min_accuracy, "reason": UNTIL_CALIBRATED}}
    return [("clean", "accuracy", {} if about.min_accuracy is None else by_hand)]


def of_each_class(prefix: str, metric: str, *, least: int = 1) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes a check of the metric for each class, of at least so many."""
    return lambda about: [
        (f"{prefix}-{slug}", metric, {"class": name}) for name, slug in about.slugs.items() if len(about.slugs) >= least
    ]


def poses(family: str) -> Callable[[StarterData], list[Row]]:
    """Return a function that makes checks of a family's angles, directions or corners of the augmentation range."""

    def rows(about: StarterData) -> list[Row]:
        (right, down), most, least = about.shift, _DEGREES[-1], _DEGREES[0]
        found: dict[str, dict[str, tuple[int, int, int]]] = {
            "rotation": {f"rotate-{_way(degrees)}": (degrees, 0, 0) for degrees in _DEGREES},
            "shift": {
                f"shift-right-{right}": (0, right, 0),
                f"shift-left-{right}": (0, -right, 0),
                f"shift-down-{down}": (0, 0, down),
                f"shift-up-{down}": (0, 0, -down),
            },
            "pose": {
                f"pose-{_way(degrees)}-{'down' if dy > 0 else 'up'}-{'right' if dx > 0 else 'left'}": (degrees, dx, dy)
                for degrees, dy, dx in product((most, least), (down, -down), (right, -right))
            },
            "gain": {f"gain-{_way(degrees)}": (degrees, 0, 0) for degrees in (most, least)},
        }
        metric = "accuracy_gain" if family == "gain" else "accuracy"
        return [(name, metric, {"pose": _pose(*pose)}) for name, pose in found[family].items()]

    return rows


def pairs(about: StarterData) -> list[Row]:
    """Return a check of each confusable pair."""
    return [
        (f"pair-{about.slugs[one]}-{about.slugs[two]}", "pair_failures", {"pair": [one, two]})
        for one, two in about.pairs
    ]


def search(about: StarterData) -> list[Row]:
    """Return checks of the searches for a worst pose."""
    within = {"within": _pose(_DEGREES[-1], *about.shift)}
    return [
        ("drawn-pose", "accuracy", within),
        ("drawn-pose-unchanged", "unchanged_share", within),
        ("worst-pose-augmentation-range", "robust_accuracy", {"grid": "augmentation-range"}),
        ("break-rotation-median", "breaking_severity", {"path": "rotation", "share_broken": 0.5}),
    ]


def corruption(_: StarterData) -> list[Row]:
    """Return a check of each shipped corruption."""
    return [
        (f"corrupt-{name}-{_SEVERITY}", "accuracy", {"corruption": name, "severity": _SEVERITY}) for name in SHIPPED
    ]


def unknown(_: StarterData) -> list[Row]:
    """Return checks for each kind of images of no class: AUROC by every score, and FPR95 by energy."""
    measured = [("", UNKNOWN_AUROC, score) for score in SCORES] + [("fpr95-", UNKNOWN_FPR95, "energy")]
    return [
        (f"unknown-{kind}-{prefix}{score}", metric.name, {"unknown": kind, "score": score})
        for kind in (*UNFAMILIAR, ELSEWHERE)
        for prefix, metric, score in measured
    ]


def _way(degrees: int) -> str:
    return f"{'ccw' if degrees > 0 else 'cw'}-{abs(degrees):03}"


def _pose(degrees: int, dx: int, dy: int) -> dict[str, int]:
    return {name: value for name, value in (("degrees", degrees), ("dx", dx), ("dy", dy)) if value}


# Tests.


@dataclass(frozen=True)
class ShippedTest:
    """A file of stress tests: its name, its text, and the arguments of each `@check(family, metric=...)` in it.

    `takes` holds pairs of family and metric; an empty metric stands for all.
    """

    name: str
    text: str
    takes: frozenset[tuple[str, str]]

    def takes_check(self, family: str, metric: str) -> bool:
        """Return whether one of its tests runs for checks of this family and metric."""
        return not self.takes.isdisjoint({(family, metric), (family, "")})


def shipped_tests() -> tuple[ShippedTest, ...]:
    """Return the stress tests that ship, by name; raises `InputError` if the package lacks them."""
    # A wheel holds them inside the package, a checkout beside it.
    places = (_PACKAGE / "stress_tests", _PACKAGE.parent / "stress_tests")
    files = next((found for place in places if (found := sorted(place.glob("test_*.py")))), [])
    if not files:
        raise PackageError(f"{_PACKAGE}: this copy of the package lacks its stress tests; install it again")
    tests = []
    for file in (*files, *sorted(_PACKAGE.glob("features/*/stress_tests/test_*.py"))):
        text = file.read_text("utf-8")
        marks = re.findall(r'(?m)^@check\("([\w-]+)"(.*)\)$', text)
        takes = frozenset((family, "".join(re.findall(r'metric="(\w+)"', more))) for family, more in marks)
        tests.append(ShippedTest(file.name, text, takes))
    return tuple(tests)
