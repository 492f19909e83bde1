"""The command `skew`: the stage of the serving pipeline that explains the predictions of production."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.equal import SHARE
from harness.cli.options import MODEL, NEGATIVE, OK, Command, json_option, model_options, project_with, say
from harness.run.status import NOT_JUDGED

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "skew",
    cls=Command,
    example="skew models/augmented.safetensors --served predictions.csv",
    help="Say whether a served model predicts known images as CANDIDATE does here. If not, name the stage of "
    "its serving pipeline that explains the predictions best: decoding, JPEG, color, resizing, cropping, scaling or "
    "normalization. The exit status is 0 if it agrees and 1 if it differs. It is 4 if these images "
    "cannot tell, and for refused input.",
)
@click.argument("candidate", type=MODEL, metavar="CANDIDATE")
@click.option(
    "--served",
    type=MODEL,
    required=True,
    metavar="FILE|MODEL",
    help="The predictions of production: .csv, .parquet or .npz with image, and label or a column for each class. The "
    "column image has the number of the image in the data, from 0, or the name of its file. Or the served model "
    "itself, such as https://HOST/v2/models/NAME, which is asked.",
)
@click.option(
    "--tolerance",
    type=SHARE,
    default="1%",
    metavar="SHARE",
    help="The share of predictions that may change (default: 1%).",
)
@model_options
@json_option
def skew_command(candidate: Path | str, served: Path | str, tolerance: float, *, as_json: bool) -> int:
    """Explain served predictions."""
    from harness.report.skew import diagnosis_json, diagnosis_lines
    from harness.run.skew import skew

    found = skew(candidate, served, project_with(as_json=as_json).request, tolerance=tolerance)
    say(diagnosis_json(found), diagnosis_lines(found), as_json=as_json)
    return {"equal": OK, "different": NEGATIVE, "inconclusive": NOT_JUDGED}[found.outcome]
