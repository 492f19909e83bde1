"""The command `leakage`: near-duplicates between training and test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from harness.data import LabelledImages
    from harness.features.leakage.duplicates import Leaks

_NAMED = 10
"""Pairs that the terminal names; the table has all."""
_SURE = 0.001
"""A number of near-duplicates is more than chance if chance gives it with a smaller probability."""


@click.command(
    "leakage",
    cls=options.CommandWithExample,
    example="leakage --train folder:photos/train",
    help="Find test images with a near-duplicate among the training images: re-encoded, resized, "
    "flipped, or cropped by about 5%. Pixels are compared after alignment, so no model is needed. "
    "Exit status 1 means that there are plain copies, or more near-duplicates than by chance.",
)
@click.option(
    "--train",
    required=True,
    metavar="SPEC",
    help="The training images, as data; fashion-mnist has its own.",
)
@options.run_options("data", "size")
@click.option(
    "--chance",
    type=options.share_within_one,
    default="0.5%",
    metavar="SHARE",
    help="The share of test images that find such a neighbor among the other test images; it sets "
    "the threshold (default: 0.5%).",
)
@options.output_option(
    "CSV", "The table of the pairs, the nearest first", default="reports/leakage.csv"
)
@options.json_option
def leakage_command(train: str, chance: float, output: Path, *, as_json: bool) -> int:
    """Find near-duplicates."""
    from harness.base.errors import DataError
    from harness.base.outputs import table_kind
    from harness.features.leakage.duplicates import NEIGHBORS, leaked
    from harness.report.exports import csv_text
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    kind = table_kind("a table of leakage", "image")
    table = options.own_output(output, kind, inputs_of_command([train], settings))
    test_images = settings.all_images()
    training_images = settings.training_images(train)
    _expect_one_shape(training_images, test_images, train)

    test, training = _compared(test_images), _compared(training_images)
    constant = (
        f"left out, of one color: {test.left_out:,} test and {training.left_out:,} training images"
    )
    if min(len(test.images), len(training.images)) <= NEIGHBORS:
        raise DataError(
            f"both sets need more than {NEIGHBORS} images ({constant})", setting=f"train {train}"
        )
    leaks = leaked(test.pixels, training.pixels, chance)
    columns = _columns(leaks, test.images, training.images)
    rows = list(zip(*columns.values(), strict=True))
    table.write(csv_text([*columns], rows).encode())

    is_more_than_chance = leaks.p < _SURE
    counts = (
        f"{len(rows):,} of {len(test.images):,} test images have a near-duplicate among "
        f"{len(training.images):,} training images"
    )
    comparison = "more than by chance" if is_more_than_chance else "no more than by chance"
    lines = [
        f"{counts} (a ratio below {leaks.threshold:.3f}; by chance {chance:.1%} of test images)",
        f"{comparison} (p = {leaks.p:.2g}, expected below {_SURE:.1%} for leakage); plain copies: "
        f"{leaks.copies:,}",
    ]
    if leaks.inside:
        lines.append(f"test images with a copy in the test set itself: {leaks.inside:,}")
    if test.left_out or training.left_out:
        lines.append(constant)
    for image, other, ratio, _, label, other_label in rows[:_NAMED]:
        pair = f"image {image} ({label}): training image {other} ({other_label})"
        lines.append(f"  {pair}, ratio {ratio}")
    lines.append(f"written: {output}")

    plain = {
        "threshold": leaks.threshold,
        "images": len(test.images),
        "p": leaks.p,
        "copies": leaks.copies,
        "copies_in_test_set": leaks.inside,
        "left_out": {"test": test.left_out, "training": training.left_out},
        "pairs": [dict(zip(columns, row, strict=True)) for row in rows],
        "table": str(output),
    }
    options.say(plain, lines, as_json=as_json)
    if leaks.copies or is_more_than_chance:
        return options.NEGATIVE
    return options.OK


@dataclass(frozen=True, eq=False)
class _Compared:
    """Images that are compared, their small `pixels`, and how many of one color are `left_out`."""

    images: LabelledImages
    pixels: Tensor
    left_out: int


def _compared(images: LabelledImages) -> _Compared:
    import torch

    from harness.features.leakage.duplicates import small, varied

    pixels = small(images.pixels)
    positions = torch.nonzero(varied(pixels))[:, 0]
    left_out = len(images) - len(positions)
    return _Compared(images.take(positions), pixels[positions], left_out)


def _expect_one_shape(training: LabelledImages, test: LabelledImages, train: str) -> None:
    """Raise `DataError` for images of two shapes, and for images too small to compare."""
    from harness.base.errors import DataError
    from harness.features.leakage.duplicates import SMALLEST

    shape = "x".join(map(str, training.pixels.shape[1:]))
    test_shape = "x".join(map(str, test.pixels.shape[1:]))
    if shape != test_shape:
        raise DataError(
            f"has other shapes than the test images ({shape} and {test_shape}); give a size",
            setting=f"train {train}",
        )
    if min(test.pixels.shape[2:]) < SMALLEST:
        raise DataError(
            f"the images are {shape}, expected {SMALLEST} pixels or more on each side; give a size"
        )


def _columns(leaks: Leaks, test: LabelledImages, training: LabelledImages) -> dict[str, list[Any]]:
    """Return the columns of the table of near-duplicates, the nearest first."""
    import numpy as np
    import torch

    nearest = leaks.nearest
    pairs = np.flatnonzero(leaks.found)
    pairs = pairs[np.argsort(nearest.ratio[pairs], kind="stable")]
    others = torch.from_numpy(nearest.position[pairs])
    columns = {
        "image": test.positions.numpy()[pairs],
        "training image": training.positions[others].numpy(),
        "ratio": nearest.ratio[pairs].astype(float).round(4),
        "unexplained": nearest.distance[pairs].astype(float).round(4),
        "label": np.array(test.classes)[test.labels.numpy()[pairs]],
        "training label": np.array(training.classes)[training.labels[others].numpy()],
    }
    return {name: values.tolist() for name, values in columns.items()}
