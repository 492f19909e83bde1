"""The command `export-inputs`: images of the checks, for a system that predicts elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "export-inputs",
    cls=options.CommandWithExample,
    passes_on=True,
    example="export-inputs inputs --families clean,rotation",
    help="Write the images of the checks into the folder OUT, with every perturbation applied, for "
    "predictions in another system. OUT/README.md says how to write the predictions, "
    "OUT/answer.py writes them. `gate --candidate predictions:FILE` judges them. An export "
    "that was interrupted resumes.",
)
@click.argument("folder", metavar="OUT", type=options.FILE)
@options.run_options()
@options.checks_option
@click.option(
    "--families",
    default="",
    metavar="NAMES",
    help="Export for these families of checks alone, joined by commas; the verdict is then partial "
    "(default: all).",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="The time that the system may take, such as 90s, 30m or 1.5h. Families are exported on "
    "samples that fit. The verdict is then partial (default: all images).",
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
    "--overview", is_flag=True, help="Also export the images of the report's comparison of models."
)
def export_inputs_command(
    folder: Path,
    checks_path: Path,
    families: str,
    budget: str | None,
    speed: float,
    *,
    overview: bool,
) -> int:
    """Export the images."""
    from tempfile import TemporaryDirectory

    from harness.checks import read_checks
    from harness.run.budget import seconds_in
    from harness.run.inner import execute
    from harness.run.request import RunRequest

    named = tuple(filter(None, (name.strip() for name in families.split(","))))
    options.project_with(checks_path)
    if budget is not None:
        seconds_in(budget)
    order = {
        "folder": str(folder.absolute()),
        "families": named,
        "speed": speed,
        "overview": overview,
    }
    with TemporaryDirectory() as reports:
        request = RunRequest(
            checks=checks_path,
            profile="default" if read_checks(checks_path).data.sample is None else "quick",
            plan=True,
            budget=budget,
            reports=reports,
            tests=(str(checks_path.parent),),
            options=("-q", "-s", "-p", "no:cacheprovider", *options.for_gate()),
            instead=("harness.features.exports.image_export", order),
        )
        result = execute(request, on_line=_tell_progress)
    if result.status:
        why = [
            line.removeprefix("ERROR: ") for line in result.printed if line.startswith("ERROR: ")
        ]
        ended = f"nothing was exported; pytest ended with exit status {result.status}:"
        raise (
            InputError(why[-1])
            if why
            else InputError(ended, below=result.printed, code=Code.PYTEST)
        )
    options.tell(
        f"written: {folder}",
        f"next: put your model into {folder / 'answer.py'}, run it, and gate the predictions:",
        "  stress-harness gate --candidate predictions:answers.npz",
    )
    return options.OK


def _tell_progress(line: str) -> None:
    from harness.features.exports.template import SAID

    if line.startswith(SAID):
        options.tell(line.removeprefix(SAID))
