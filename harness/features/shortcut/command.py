"""The command `shortcuts`: simple properties that predict a class in training images alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from harness.features.shortcut.associations import Association

_NAMED = 10
"""Properties that the terminal names; the table has all."""


@click.command(
    "shortcuts",
    cls=options.CommandWithExample,
    example="shortcuts --train folder:photos/train",
    help="Find shortcuts: simple properties that predict one class in the training images far "
    "better than in the test images, or the reverse. These are the level of each edge and corner, "
    "the mean of each channel, contrast and sharpness. Of pictures in files, also format, size in "
    "bytes, width, height and aspect ratio. No model is needed. Exit status 1 means that there are "
    "such properties.",
)
@click.option(
    "--train",
    required=True,
    metavar="SPEC",
    help="The training images, as data; fashion-mnist has its own.",
)
@options.run_options("data", "size")
@options.output_option(
    "CSV", "The table of the properties, the strongest first", default="reports/shortcuts.csv"
)
@options.json_option
def shortcuts_command(train: str, output: Path, *, as_json: bool) -> int:
    """Find shortcuts."""
    from harness.base.errors import DataError
    from harness.base.outputs import table_kind
    from harness.features.shortcut.associations import associations
    from harness.features.shortcut.properties import properties_of
    from harness.report.exports import csv_text
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    kind = table_kind("a table of shortcuts", "property")
    table = options.own_output(output, kind, inputs_of_command([train], settings))
    test = settings.all_images()
    training = settings.training_images(train)
    if training.classes != test.classes:
        raise DataError(
            f"has the classes {', '.join(training.classes)}; expected those of the test images, "
            f"{', '.join(test.classes)}",
            setting=f"train {train}",
        )

    training_properties = properties_of(training)
    test_properties = properties_of(test)
    shortcuts = associations(
        (training_properties, training.labels.numpy()),
        (test_properties, test.labels.numpy()),
        classes=len(test.classes),
    )
    rows = [_row(association, test.classes) for association in shortcuts]
    columns = ("property", "class", "area in training images", "area in test images", "p")
    table.write(csv_text(list(columns), [tuple(row.values()) for row in rows]).encode())

    compared = len(set(training_properties) & set(test_properties))
    noun = "shortcut" if len(rows) == 1 else "shortcuts"
    lines = [
        f"{len(rows)} {noun}: properties that predict a class better in {len(training):,} training "
        f"images than in {len(test):,} test images, or the reverse (of {compared} properties, "
        f"{len(test.classes)} classes)",
        *(f"  {_in_words(association, test.classes)}" for association in shortcuts[:_NAMED]),
        f"written: {output}",
    ]
    summary = {
        "training_images": len(training),
        "test_images": len(test),
        "properties": compared,
        "shortcuts": rows,
    }
    options.say({**summary, "table": str(output)}, lines, as_json=as_json)
    return options.NEGATIVE if rows else options.OK


def _row(association: Association, classes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "property": association.name,
        "class": classes[association.label],
        "training_area": round(association.training_area, 4),
        "test_area": round(association.test_area, 4),
        "p": association.p,
    }


def _in_words(association: Association, classes: tuple[str, ...]) -> str:
    higher = "higher" if association.training_area > association.test_area else "lower"
    return (
        f"{classes[association.label]}: {association.name} is {higher}; area under the curve "
        f"{association.training_area:.3f} in training images, {association.test_area:.3f} in test "
        f"images (p = {association.p:.2g})"
    )
