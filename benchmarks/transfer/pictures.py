"""Pictures of the same emoji by four vendors, from their npm packages.

Training and test images of 64 pixels.

The class of an emoji is its category in Unicode, without flags. All pictures of an emoji are on one
side of the split.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from harness.base.errors import InputError

VENDORS = ("google", "twitter", "openmoji", "fluent")
SIZE, TEST_EMOJI = 64, 636
_LEFT_OUT = frozenset({"Flags", "Component"})
_PACKAGES = "emoji-datasource-google, emoji-datasource-twitter, openmoji and fluentui-emoji"


@dataclass(frozen=True)
class Emoji:
    """An emoji: its code points in hexadecimal, its category, and each vendor's file."""

    code: str
    category: str
    files: Mapping[str, Path]


def emoji_of(packages: Path) -> list[Emoji]:
    """Return the emoji that at least three vendors draw, in the order of Unicode.

    `packages` has a folder for each vendor, an extracted npm package. Raises `InputError` if a
    package is missing.
    """
    google, twitter, openmoji, fluent = (packages / vendor / "package" for vendor in VENDORS)
    if missing := [path for path in (google, twitter, openmoji, fluent) if not path.is_dir()]:
        raise InputError(
            f"{missing[0]}: there is no such folder; extract the npm packages {_PACKAGES} there"
        )
    names = {
        row["hexcode"]: row["annotation"]
        for row in json.loads((openmoji / "data/openmoji.json").read_bytes())
    }
    found = []
    for row in sorted(
        json.loads((google / "emoji.json").read_bytes()), key=lambda row: row["sort_order"]
    ):
        code = row["unified"] if row["unified"] in names else row["unified"].replace("-FE0F", "")
        slug = slug_of(names.get(code, ""))
        candidates = {
            "google": [google / "img/google/64" / row["image"]],
            "twitter": [twitter / "img/twitter/64" / row["image"]],
            "openmoji": [openmoji / "color/svg" / f"{code}.svg"],
            "fluent": [fluent / "icons/modern" / f"{slug}{part}.svg" for part in ("", "-default")],
        }
        files = {
            vendor: path for vendor, paths in candidates.items() for path in paths if path.is_file()
        }
        if row["category"] not in _LEFT_OUT and len(files) >= len(VENDORS) - 1:
            found.append(Emoji(code, slug_of(row["category"]), files))
    return found


def slug_of(name: str) -> str:
    """Return a name in lower case with hyphens for all that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("’", "")).strip("-")


def halves(emoji: Sequence[Emoji], *, seed: int = 0) -> tuple[list[Emoji], list[Emoji]]:
    """Return emoji for training and for the test; all vendors draw each of the test."""
    order = np.random.default_rng(seed).permutation(len(emoji)).tolist()
    chosen = set([at for at in order if len(emoji[at].files) == len(VENDORS)][:TEST_EMOJI])
    return [each for at, each in enumerate(emoji) if at not in chosen], [
        emoji[at] for at in sorted(chosen)
    ]


def write_pictures(packages: Path, train: Path, test: Path) -> tuple[int, int]:
    """Write the training images as one npz file and the test images as a folder with groups.

    Return their numbers.
    """
    learnt, tested = halves(emoji_of(packages))
    categories = sorted({each.category for each in tested})
    pictures = [(each, vendor, path) for each in learnt for vendor, path in each.files.items()]
    train.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        train,
        images=np.stack([np.asarray(picture(path)) for _, _, path in pictures]),
        labels=np.array([categories.index(each.category) for each, _, _ in pictures]),
        vendors=np.array([vendor for _, vendor, _ in pictures]),
        classes=np.array(categories),
    )
    rows = []
    for each in tested:
        for vendor, path in each.files.items():
            name = f"{each.category}/{vendor}-{each.code}.png"
            (test / name).parent.mkdir(parents=True, exist_ok=True)
            picture(path).save(test / name)
            rows.append((name, vendor, each.code))
    with (test / "groups.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("path", "vendor", "pair"), *rows])
    return len(pictures), len(rows)


def picture(path: Path) -> Image.Image:
    """Return a picture on white, RGB of 64 pixels, from a PNG or SVG file."""
    from PIL import Image

    content = path.read_bytes()
    if path.suffix == ".svg":
        import resvg_py

        content = bytes(resvg_py.svg_to_bytes(svg_string=content.decode(), width=SIZE, height=SIZE))
    drawn = Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGBA")
    white = Image.new("RGBA", drawn.size, "white")
    return (
        Image.alpha_composite(white, drawn)
        .convert("RGB")
        .resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    )
