"""The command `export-inputs`: the images that a checks file asks about, for a system that predicts them elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.options import FILE, OK, Command, checks_option, for_gate, project_with, run_options

if TYPE_CHECKING:
    from pathlib import Path

_FORMATS = ("npz", "png")


@click.command(
    "export-inputs",
    cls=Command,
    passes_on=True,
    example="export-inputs inputs --families clean,rotation",
    help="Write the images of the checks into the folder OUT, with every perturbation applied, for predictions in "
    "another system. OUT/README.md says how to write the predictions, OUT/answer.py writes them. `gate "
    "--candidate predictions:FILE` judges them. An export that was interrupted resumes.",
)
@click.argument("folder", metavar="OUT", type=FILE)
@run_options()
@checks_option
@click.option(
    "--families",
    default="",
    metavar="NAMES",
    help="Export for these families of checks alone, joined by commas; the verdict is then partial (default: all).",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="The time that the system may take, such as 90s, 30m or 1.5h. Families are exported on samples that fit; "
    "the verdict is then partial (default: all images).",
)
@click.option(
    "--images-per-second",
    "speed",
    type=click.FloatRange(min=0, min_open=True),
    default=100.0,
    metavar="N",
    help="With --budget: how many images the system predicts in a second (default: 100).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="npz",
    help="npz, float32 without loss, or png, rounded to 8 bits (default: npz).",
)
@click.option("--overview", is_flag=True, help="Also export the images of the report's comparison of models.")
def export_inputs_command(
    folder: Path, checks_path: Path, families: str, budget: str | None, speed: float, form: str, *, overview: bool
) -> int:
    """Export the images."""
    from harness.run.export.request import ExportOrder
    from harness.run.export.start import export_inputs

    named = tuple(filter(None, (name.strip() for name in families.split(","))))
    project_with(checks_path)
    order = ExportOrder(str(folder.absolute()), form, named, speed, overview)
    export_inputs(order, checks_path, budget=budget, options=for_gate(), say=print)
    print(f"written: {folder}\nnext: put your model into {folder / 'answer.py'}, run it, and gate the predictions:")
    print(f"  stress-harness gate --candidate predictions:{'answers.npz' if form == 'npz' else 'answers.csv'}")
    return OK
