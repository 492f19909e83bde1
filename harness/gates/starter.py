"""The first gates file for data of one's own: rows of the families wanted, without bounds, which calibration sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.data.groups import groups_sha256
from harness.errors import InputError
from harness.gates.file import SCHEMA
from harness.gates.slices import SLICE, slice_rows
from harness.gates.starter_row import StarterRow, in_toml, slugs, with_ids_apart
from harness.perturb import PROTOCOL
from harness.perturb.corruptions import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness.data import LabelledImages

DEFAULT = ("clean", "class", "rotation", "shift", "confidence", "regression", "pairs")
"""The families of a first gates file, where none are named."""
_DEGREES = (-10, -5, 5, 10)
_SHARE = 0.07
"""How far images are shifted, of their size: as far as 2 of 28 pixels."""
_SEVERITY = 3
"""Of corruptions, the middle of five."""


def starter_rows(
    images: LabelledImages,
    families: Sequence[str] = DEFAULT,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    min_accuracy: float | None = None,
) -> tuple[StarterRow, ...]:
    """Return the rows of these families for these images, those of `pairs` for the pairs of classes given.

    `min_accuracy` is a bound by hand on the accuracy of images as they are, a share. Raises `InputError` for a bound
    that is no share or has no row.
    """
    about = _About(images, tuple(pairs), min_accuracy)
    if min_accuracy is not None and not ("clean" in families and 0 < min_accuracy <= 1):
        raise InputError(
            f"--min-accuracy {min_accuracy:g}: expected a share above 0 and at most 1, such as 0.9, and the family "
            "clean"
        )
    return with_ids_apart(row for name, rows in FAMILIES.items() if name in families for row in rows(about))


def families_of(names: str | None) -> tuple[str, ...]:
    """Return the families in text such as `clean,rotation`, None for those by default.

    Raises `InputError` for others than those of `FAMILIES`.
    """
    families = DEFAULT if names is None else tuple(filter(None, names.split(",")))
    if not families or (unknown := [name for name in families if name not in FAMILIES]):
        wrong = unknown[0] if families else ""
        raise InputError(f"--families {wrong}: no stress test of it ships; expected some of {','.join(FAMILIES)}")
    return families


def starter(images: LabelledImages, rows: Sequence[StarterRow]) -> str:
    """Return the text of a gates file for these images, with these rows."""
    of_groups = any(row.family == SLICE for row in rows)
    lines = [
        "# Bounds are set by `python -m harness calibrate`, from retrains of yours that are healthy. Until then a row",
        '# has one by hand, `hand = { bound = 0.9, reason = "..." }`, or is reported only. It runs in the stress test',
        "# that is marked with its family. What the keys mean is in docs/reference/gates.md of the harness.",
        f"\nschema = {SCHEMA}\nprotocol = {PROTOCOL}\n\n[data]",
        *(f"{key} = {in_toml(value)}" for key, value in _data(images, of_groups=of_groups).items()),
        *(f"\n{row.as_toml()}" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _data(images: LabelledImages, *, of_groups: bool) -> dict[str, object]:
    return {
        "name": images.name,
        "split": images.split,
        "sha256": images.sha256,
        "n": len(images),
        "classes": list(images.classes),
        **({"groups_sha256": groups_sha256(images.groups)} if of_groups else {}),
    }


@dataclass(frozen=True)
class _About:
    """What rows depend on."""

    images: LabelledImages
    pairs: tuple[tuple[str, str], ...]
    min_accuracy: float | None

    @property
    def slugs(self) -> dict[str, str]:
        """Return how ids name each class; of classes whose names come to one spelling, with a number."""
        return slugs(self.images.classes)

    @property
    def shift(self) -> tuple[int, int]:
        """Return how far images are moved, right and down, in pixels."""
        height, width = self.images.pixels.shape[2:]
        return max(1, round(_SHARE * width)), max(1, round(_SHARE * height))


def _clean(about: _About) -> list[StarterRow]:
    by_hand = f'hand = {{ bound = {about.min_accuracy}, reason = "until calibrated" }}'
    return [StarterRow("clean", "clean", "accuracy", () if about.min_accuracy is None else (by_hand,))]


def _class(about: _About) -> list[StarterRow]:
    return [
        StarterRow(f"clean-{slug}", "class", "accuracy", (f"class = {in_toml(name)}",))
        for name, slug in about.slugs.items()
    ]


def _consensus(_: _About) -> list[StarterRow]:
    rest = ('under = ["rest"]',)
    return [
        StarterRow("consensus-clean", "consensus", "lost_consensus", rest),
        StarterRow("consensus-class", "consensus", "lost_of_a_class", rest),
    ]


def _rotation(_: _About) -> list[StarterRow]:
    return [StarterRow(f"rotate-{_way(at)}", "rotation", "accuracy", (_pose(degrees=at),)) for at in _DEGREES]


def _shift(about: _About) -> list[StarterRow]:
    right, down = about.shift
    poses = {
        f"shift-right-{right}": _pose(dx=right),
        f"shift-left-{right}": _pose(dx=-right),
        f"shift-down-{down}": _pose(dy=down),
        f"shift-up-{down}": _pose(dy=-down),
    }
    return [StarterRow(name, "shift", "accuracy", (pose,)) for name, pose in poses.items()]


def _flip(_: _About) -> list[StarterRow]:
    return [StarterRow("flip", "flip", "accuracy"), StarterRow("flip-invariance", "flip", "invariance")]


def _corners(about: _About) -> list[StarterRow]:
    right, down = about.shift
    return [
        StarterRow(
            f"pose-{_way(degrees)}-{'down' if dy > 0 else 'up'}-{'right' if dx > 0 else 'left'}",
            "pose",
            "accuracy",
            (_pose(degrees=degrees, dx=dx, dy=dy),),
        )
        for degrees in (_DEGREES[-1], _DEGREES[0])
        for dy in (down, -down)
        for dx in (right, -right)
    ]


def _confidence(_: _About) -> list[StarterRow]:
    return [
        StarterRow("confident-errors", "confidence", "confident_errors", ("confidence = 0.9",)),
        StarterRow("calibration-error-clean", "confidence", "calibration_error"),
        StarterRow("log-loss-clean", "confidence", "negative_log_likelihood"),
    ]


def _pairs(about: _About) -> list[StarterRow]:
    return [
        StarterRow(
            f"pair-{about.slugs[first]}-{about.slugs[second]}",
            "pairs",
            "pair_failures",
            (f"pair = {in_toml([first, second])}",),
        )
        for first, second in about.pairs
    ]


def _gain(_: _About) -> list[StarterRow]:
    at = (_DEGREES[-1], _DEGREES[0])
    return [StarterRow(f"gain-{_way(each)}", "gain", "accuracy_gain", (_pose(degrees=each),)) for each in at]


def _regression(_: _About) -> list[StarterRow]:
    by_hand = 'hand = { bound = -0.01, reason = "a point of accuracy" }'
    return [StarterRow("regression-clean", "regression", "accuracy_change", ("significance = 0.001", by_hand))]


def _flips(about: _About) -> list[StarterRow]:
    return [
        StarterRow("flips", "flips", "negative_flips"),
        *(
            StarterRow(f"flips-{slug}", "flips", "negative_flips", (f"class = {in_toml(name)}",))
            for name, slug in about.slugs.items()
        ),
        StarterRow("flips-consensus", "flips", "negative_flips", ('among = "consensus"',)),
    ]


def _search(about: _About) -> list[StarterRow]:
    right, down = about.shift
    within = _pose("within", degrees=_DEGREES[-1], dx=right, dy=down)
    return [
        StarterRow("drawn-pose", "search", "accuracy", (within,)),
        StarterRow("drawn-pose-unchanged", "search", "unchanged_share", (within,)),
        StarterRow("worst-pose-promised", "search", "right_at_every_pose", ('grid = "promised"',)),
        StarterRow("break-rotation-median", "search", "breaking_severity", ('path = "rotation"', "share_broken = 0.5")),
    ]


def _attention(_: _About) -> list[StarterRow]:
    return [
        StarterRow("attention-ratio", "attention", "attention_ratio"),
        StarterRow("attention-lift", "attention", "attention_lift"),
        StarterRow("attention-dead", "attention", "dead_maps"),
        StarterRow("background-swapped", "attention", "kept", ('background = "swapped"',)),
        StarterRow("object-erased", "attention", "lost"),
    ]


def _corruption(_: _About) -> list[StarterRow]:
    return [
        StarterRow(
            f"corrupt-{name}-{_SEVERITY}",
            "corruption",
            "accuracy",
            (f"corruption = {in_toml(name)}", f"severity = {_SEVERITY}"),
        )
        for name in SHIPPED
    ]


FAMILIES: Mapping[str, Callable[[_About], list[StarterRow]]] = {
    "clean": _clean,
    "class": _class,
    "consensus": _consensus,
    "rotation": _rotation,
    "shift": _shift,
    "flip": _flip,
    "pose": _corners,
    "confidence": _confidence,
    "pairs": _pairs,
    "gain": _gain,
    "regression": _regression,
    "flips": _flips,
    "search": _search,
    "attention": _attention,
    "corruption": _corruption,
    SLICE: lambda about: slice_rows(about.images),
}
"""The families that a first gates file may have, in its order, each with what makes its rows."""


def _way(degrees: int) -> str:
    return f"{'ccw' if degrees > 0 else 'cw'}-{abs(degrees):03}"


def _pose(key: str = "pose", *, degrees: int = 0, dx: int = 0, dy: int = 0) -> str:
    named = {"degrees": degrees, "dx": dx, "dy": dy}
    return f"{key} = {{ {', '.join(f'{name} = {value}' for name, value in named.items() if value)} }}"
