"""The command `leakage`: near-duplicates between training and test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli import options

_NAMED = 10
"""Pairs that the terminal names; the table has all."""


@click.command(
    "leakage",
    cls=options.Command,
    example="leakage --train folder:photos/train",
    help="Find test images with a near-duplicate among the training images: re-encoded, resized, flipped, or cropped "
    "by about 5%. Pixels are compared after alignment, so no model is needed. Exit status 1 means that there are some.",
)
@click.option("--train", required=True, metavar="SPEC", help="The training images, as data; fashion-mnist has its own.")
@options.run_options("data", "size")
@click.option(
    "--chance",
    type=options.share,
    default="0.5%",
    metavar="SHARE",
    help="The share of test images that find such a neighbor among the other test images; it sets the threshold "
    "(default: 0.5%).",
)
@click.option(
    "--output",
    type=options.FILE,
    default=Path("reports/leakage.csv"),
    metavar="CSV",
    help="The table of the pairs, the nearest first (default: reports/leakage.csv).",
)
@options.json_option
def leakage_command(train: str, chance: float, output: Path, *, as_json: bool) -> int:
    """Find near-duplicates."""
    import numpy as np
    import torch

    from harness.base.errors import DataError
    from harness.base.outputs import table_kind
    from harness.data import load_fashion_mnist
    from harness.data.sources import SHIPPED
    from harness.features.leakage.duplicates import NEIGHBORS, leaked, small
    from harness.report.exports import csv_text
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    table = options.own_output(output, table_kind("a table of leakage", "image"), inputs_of_command([train], settings))
    test = settings.all_images()
    training = load_fashion_mnist("train") if train == SHIPPED else settings.but(data=train).all_images()
    if training.pixels.shape[1:] != test.pixels.shape[1:]:
        shapes = " and ".join("x".join(map(str, each.pixels.shape[1:])) for each in (training, test))
        raise DataError(f"has other shapes than the test images ({shapes}); give a size", setting=f"train {train}")
    if min(len(training), len(test)) <= NEIGHBORS:
        raise DataError(f"both sets need more than {NEIGHBORS} images", setting=f"train {train}")
    found, threshold = leaked(small(test.pixels), small(training.pixels), chance)
    pairs = np.flatnonzero(found.ratio < threshold)
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
    lines = [f"{counts} (a ratio below {threshold:.3f}; by chance {chance:.1%} of test images)"]
    lines += [
        f"  image {one[0]} ({one[4]}): training image {one[1]} ({one[5]}), ratio {one[2]}" for one in rows[:_NAMED]
    ]
    plain = {
        "threshold": threshold,
        "images": len(test),
        "pairs": [dict(zip(columns, row, strict=True)) for row in rows],
    }
    options.say({**plain, "table": str(output)}, [*lines, f"written: {output}"], as_json=as_json)
    return options.NEGATIVE if rows else options.OK
