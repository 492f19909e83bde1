"""The commands `evaluate` and `break`: a checkpoint's failures, and poses that break it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "break",
    cls=options.CommandWithExample,
    example="break models/augmented.safetensors --image 123",
    help="Find the smallest rotation, shift and both at once that make a checkpoint fail on a test "
    "image, with a picture. Without --image, draw the survival curve of all images.",
)
@click.argument("checkpoint", type=options.MODEL, metavar="CHECKPOINT")
@click.option(
    "--image", type=int, metavar="N", help="The test image's number, from 0 (default: all images)."
)
@options.model_options
@options.output_option(
    "PNG", "The picture", in_words="reports/break-N.png, or reports/survival.png"
)
@options.json_option
def break_command(
    checkpoint: Path | str, image: int | None, output: Path | None, *, as_json: bool
) -> int:
    """Find how little it takes."""
    from harness.base.outputs import PICTURE
    from harness.features.evaluation.breaking_poses import break_image, survival
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    path = output or options.REPORTS / ("survival.png" if image is None else f"break-{image}.png")
    picture = options.own_output(path, PICTURE, inputs_of_command([checkpoint], settings))
    found = (
        survival(checkpoint, settings)
        if image is None
        else break_image(checkpoint, settings, image)
    )
    plain, lines, content = found
    if content is not None:
        picture.write(content)
        lines.append(f"picture: {path}")
    options.say(
        {**plain, "picture": None if content is None else str(path)}, lines, as_json=as_json
    )
    return options.OK if content is not None else options.NEGATIVE


@click.command(
    "evaluate",
    cls=options.CommandWithExample,
    example="evaluate runs/new.safetensors --failures",
    help="Print a model's accuracy on the test images, clean and over the augmentation range "
    "(±10°, ±2 px). Options add precision and recall by class, failures by kind and suspected "
    "label errors.",
)
@click.argument("checkpoint", type=options.MODEL, metavar="CHECKPOINT")
@options.model_options
@click.option(
    "--poses", "on_grid", is_flag=True, help="Also search the 9x5x5 grid of poses (minutes)."
)
@click.option(
    "--per-class", is_flag=True, help="Also print precision, recall and F1 of each class."
)
@click.option(
    "--failures",
    is_flag=True,
    help="Also count failures by kind, clean and posed, and name the persistent ones. The folder "
    "--output gets all of them as CSV and Markdown, with the probability of each class, or of "
    "the true one beyond 100.",
)
@click.option(
    "--pair",
    "pairs",
    nargs=2,
    multiple=True,
    metavar="A B",
    help="With --failures: confusions of these two classes, as one more kind; may be given several "
    "times (default: none).",
)
@click.option(
    "--pose",
    "poses",
    nargs=3,
    type=float,
    multiple=True,
    metavar="DEGREES DX DY",
    help="With --failures: list failures in this pose, too; may be given several times (default: "
    "none).",
)
@click.option(
    "--label-errors",
    is_flag=True,
    help="Also list suspected label errors, which nearly all reference models contradict, with the "
    "accuracy without them. The folder --output gets them as CSV, the most suspect first.",
)
@click.option(
    "--panel-predictions",
    "predictions_path",
    type=options.FILE,
    metavar="FILE",
    help="The panel predictions that calibrate writes (default: the file that "
    "stress_tests/checks.toml names, if it is about these images). They tell shared from "
    "unique errors, and name suspected label errors.",
)
@options.output_option("DIR", "The folder for the tables", default="reports/failures")
@click.option(
    "--per-image",
    "images_table",
    type=options.FILE,
    metavar="FILE",
    help="Also write the results of each image into this .csv or .parquet: the SHA-256 of its "
    "pixels as identifier, label, prediction, probabilities and groups. With --pose, it has a "
    "row for each pose, too (default: no table).",
)
@options.json_option
def evaluate_command(
    checkpoint: Path | str,
    predictions_path: Path | None,
    output: Path,
    images_table: Path | None,
    *,
    failures: bool,
    label_errors: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Evaluate a checkpoint."""
    from harness.features.evaluation.evaluation import FILES, evaluate
    from harness.features.evaluation.per_image import kind_of
    from harness.run.inputs import inputs_of_command

    settings = options.project_with(as_json=as_json).request
    inputs = inputs_of_command([checkpoint, predictions_path], settings)
    kinds = FILES if failures or label_errors else {}
    outputs = {
        name: options.own_output(output / name, kind, inputs) for name, kind in kinds.items()
    }
    if images_table:
        outputs[str(images_table)] = options.own_output(images_table, kind_of(images_table), inputs)
    parts, notes = evaluate(
        checkpoint,
        settings,
        failures=failures,
        find_label_errors=label_errors,
        panel_predictions=predictions_path,
        folder=output,
        images_table=images_table,
        **asked,
    )
    for note in notes:
        options.tell(f"note: {note}", to=sys.stderr)
    for name, content in (item for part in parts for item in part.files.items()):
        outputs[name].write(content if isinstance(content, bytes) else content.encode())
    plain = {name: value for part in parts for name, value in part.plain.items()}
    options.say(plain, [line for part in parts for line in part.lines], as_json=as_json)
    return options.OK
