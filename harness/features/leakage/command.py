"""The command `leakage`: near-duplicates between training and test images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

_NAMED = 10
"""Pairs that the terminal names; the table has all."""
_SURE = 0.001
"""A number of near-duplicates is more than chance if chance gives it with a smaller probability."""


@click.command(
    "leakage",
    cls=options.Command,
    example="leakage --train folder:photos/train",
    help="Find test images with a near-duplicate among the training images: re-encoded, resized, flipped, or cropped "
    "by about 5%. Pixels are compared after alignment, so no model is needed. Exit status 1 means that there are "
    "plain copies, or more near-duplicates than by chance.",
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
    help="The share of test images that find such a neighbor among the other test images; it sets the threshold "
    "(default: 0.5%).",
)
@options.output_option(
    "CSV", "The table of the pairs, the nearest first", default="reports/leakage.csv"
)
@options.json_option
def leakage_command(train: str, chance: float, output: Path, *, as_json: bool) -> int:
    """Find near-duplicates."""
    import numpy as np
    import torch

    from harness.base.errors import DataError
    from harness.base.outputs import table_kind
    from harness.features.leakage.duplicates import NEIGHBORS, SMALLEST, leaked, small, varied
    from harness.report.exports import csv_text
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    table = options.own_output(
        output, table_kind("a table of leakage", "image"), inputs_of_command([train], settings)
    )
    test = settings.all_images()
    training = settings.training_images(train)
    shapes = ["x".join(map(str, each.pixels.shape[1:])) for each in (training, test)]
    if shapes[0] != shapes[1]:
        raise DataError(
            f"has other shapes than the test images ({' and '.join(shapes)}); give a size",
            setting=f"train {train}",
        )
    if min(test.pixels.shape[2:]) < SMALLEST:
        raise DataError(
            f"the images are {shapes[0]}, expected {SMALLEST} pixels or more on each side; give a size"
        )
    sets, made, left_out = [], [], []
    for images in (test, training):
        shown = small(images.pixels)
        kept = torch.nonzero(varied(shown))[:, 0]
        sets.append(images.take(kept))
        made.append(shown[kept])
        left_out.append(len(images) - len(kept))
    test, training = sets
    constant = f"left out, of one color: {left_out[0]:,} test and {left_out[1]:,} training images"
    if min(map(len, sets)) <= NEIGHBORS:
        raise DataError(
            f"both sets need more than {NEIGHBORS} images ({constant})", setting=f"train {train}"
        )
    leaks = leaked(made[0], made[1], chance)
    found = leaks.nearest
    pairs = np.flatnonzero(leaks.found)
    pairs = pairs[np.argsort(found.ratio[pairs], kind="stable")]
    theirs = torch.from_numpy(found.position[pairs])
    columns: dict[str, Any] = {
        "image": test.positions.numpy()[pairs],
        "training image": training.positions[theirs].numpy(),
        "ratio": found.ratio[pairs].astype(float).round(4),
        "unexplained": found.distance[pairs].astype(float).round(4),
        "label": np.array(test.classes)[test.labels.numpy()[pairs]],
        "training label": np.array(training.classes)[training.labels[theirs].numpy()],
    }
    rows = list(zip(*(each.tolist() for each in columns.values()), strict=True))
    table.write(csv_text([*columns], rows).encode())
    counts = f"{len(rows):,} of {len(test):,} test images have a near-duplicate among {len(training):,} training images"
    negative = bool(leaks.copies) or leaks.p < _SURE
    than = "more than by chance" if leaks.p < _SURE else "no more than by chance"
    lines = [
        f"{counts} (a ratio below {leaks.threshold:.3f}; by chance {chance:.1%} of test images)",
        f"{than} (p = {leaks.p:.2g}, expected below {_SURE:.1%} for leakage); plain copies: {leaks.copies:,}",
        *(
            [f"test images with a copy in the test set itself: {leaks.inside:,}"]
            if leaks.inside
            else []
        ),
        *([constant] if any(left_out) else []),
    ]
    lines += [
        f"  image {one[0]} ({one[4]}): training image {one[1]} ({one[5]}), ratio {one[2]}"
        for one in rows[:_NAMED]
    ]
    plain = {
        "threshold": leaks.threshold,
        "images": len(test),
        "p": leaks.p,
        "copies": leaks.copies,
        "copies_in_test_set": leaks.inside,
        "left_out": dict(zip(("test", "training"), left_out, strict=True)),
        "pairs": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    options.say({**plain, "table": str(output)}, [*lines, f"written: {output}"], as_json=as_json)
    return options.NEGATIVE if negative else options.OK
