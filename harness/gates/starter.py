"""The first gates file for data of one's own: rows without bounds, which calibration sets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from harness.gates.file import SCHEMA
from harness.perturb import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.data import LabelledImages

_DEGREES = (-10, -5, 5, 10)
_SHIFTS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
_SHARE = 0.07
"""How far images are shifted, of their size: as far as 2 of 28 pixels."""


def starter(images: LabelledImages, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Return the text of a gates file for these images.

    Its rows are of the families clean, class, rotation, shift and confidence, and of family pairs for the pairs of
    classes given.
    """
    lines = [
        "# Bounds are set by `python -m harness calibrate`, from retrains of yours that are healthy. A row runs in the",
        "# stress test that is marked with its family. What the keys mean, and which there are more, is at the top of",
        "# stress_tests/gates.toml in the harness's own repository.",
        f"\nschema = {SCHEMA}\nprotocol = {PROTOCOL}\n\n[data]",
        *(f"{key} = {_toml(value)}" for key, value in _data(images).items()),
        *_rows(images, pairs),
    ]
    return "\n".join(lines) + "\n"


def _data(images: LabelledImages) -> dict[str, object]:
    return {
        "name": images.name,
        "split": images.split,
        "sha256": images.sha256,
        "n": len(images),
        "classes": list(images.classes),
    }


def _rows(images: LabelledImages, pairs: Sequence[tuple[str, str]]) -> list[str]:
    slugs = [_slug(name, number) for number, name in enumerate(images.classes)]
    by_class = {
        name: f"{slug}-{number}" if slugs.count(slug) > 1 else slug
        for number, (name, slug) in enumerate(zip(images.classes, slugs, strict=True))
    }
    height, width = images.pixels.shape[2:]
    rows = [_row("clean", "clean", "accuracy")]
    rows += [_row(f"clean-{by_class[name]}", "class", "accuracy", f"class = {_toml(name)}") for name in images.classes]
    for degrees in _DEGREES:
        way = "ccw" if degrees > 0 else "cw"
        name = f"rotate-{way}-{abs(degrees):03}"
        rows.append(_row(name, "rotation", "accuracy", f"pose = {{ degrees = {degrees} }}"))
    for way, (right, down) in _SHIFTS.items():
        size = max(1, round(_SHARE * (width if right else height)))
        key, sign = ("dx", right) if right else ("dy", down)
        rows.append(_row(f"shift-{way}-{size}", "shift", "accuracy", f"pose = {{ {key} = {sign * size} }}"))
    rows.append(_row("confident-errors", "confidence", "confident_errors", 'direction = "at_most"', "confidence = 0.9"))
    for first, second in pairs:
        name = f"pair-{by_class[first]}-{by_class[second]}"
        pair = f"pair = [{_toml(first)}, {_toml(second)}]"
        rows.append(_row(name, "pairs", "pair_failures", 'direction = "at_most"', pair))
    return rows


def _row(name: str, family: str, metric: str, *more: str) -> str:
    entries: Iterable[str] = (f'id = "{name}"', f'family = "{family}"', f'metric = "{metric}"', *more)
    return "\n[[gate]]\n" + "\n".join(entries)


def _slug(name: str, number: int) -> str:
    """Return a class's name as ids have it; where nothing of it is left, its number."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or f"class-{number}"


def _toml(value: object) -> str:
    # JSON's strings, numbers and lists of these are TOML's, too.
    return json.dumps(value)
