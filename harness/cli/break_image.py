"""The command `break`: the smallest rotation and shift that a checkpoint fails on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from harness.base.errors import printable
from harness.cli.options import FILE, MODEL, NEGATIVE, OK, REPORTS, Command, json_option, model_options, project_with

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "break",
    cls=Command,
    example="break models/augmented.safetensors --image 123",
    help="Find the smallest rotation, shift and both at once that make a checkpoint fail on a test image, with a "
    "picture. Without --image, draw the survival curve of all images.",
)
@click.argument("checkpoint", type=MODEL, metavar="CHECKPOINT")
@click.option("--image", type=int, metavar="N", help="The test image's number, from 0 (default: all images).")
@model_options
@click.option(
    "--output",
    type=FILE,
    metavar="PNG",
    help="The picture (default: reports/break-N.png, or reports/survival.png).",
)
@json_option
def break_command(checkpoint: Path | str, image: int | None, output: Path | None, *, as_json: bool) -> int:
    """Find how little it takes."""
    from harness.base.outputs import PICTURE, Output
    from harness.report import breaking as shown
    from harness.run.breaking import BreakRequest, break_image, survival
    from harness.run.inputs import inputs_of_command

    request = BreakRequest(checkpoint, image, project_with(as_json=as_json).request)
    path = output or REPORTS / ("survival.png" if image is None else f"break-{image}.png")
    picture = Output(path, PICTURE, inputs_of_command([checkpoint], request.model), within=REPORTS)
    picture.expect_own()
    if image is None:
        curves = survival(request)
        picture.write(shown.survival_png(curves))
        said = {"images": curves.images, "paths": curves.paths, "picture": str(path)}
        _print(said, [*shown.survival_lines(curves), f"picture: {path}"], as_json=as_json)
        return OK
    done = break_image(request)
    said, lines = shown.broken_image_json(done), shown.broken_image_lines(done)
    if not done.by:
        _print({**said, "picture": None}, lines, as_json=as_json)
        return NEGATIVE
    picture.write(shown.broken_image_png(done))
    _print({**said, "picture": str(path)}, [*lines, f"picture: {path}"], as_json=as_json)
    return OK


def _print(said: dict[str, object], lines: list[str], *, as_json: bool) -> None:
    print(json.dumps(said) if as_json else "\n".join(map(printable, lines)))
