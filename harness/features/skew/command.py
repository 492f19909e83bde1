"""The command `skew`: the stage of the serving pipeline that explains its predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from harness.inference.precision import Precision


@click.command(
    "skew",
    cls=options.CommandWithExample,
    example="skew models/augmented.safetensors --served predictions.csv",
    help="Say whether a served model predicts known images as CANDIDATE does here. If not, name "
    "the stage of its serving pipeline that explains the predictions best: decoding, JPEG, "
    "color, resizing, cropping, scaling or normalization. Probabilities are compared, too: a "
    "move beyond the noise of the precision is a difference. The exit status is 0 if it "
    "agrees and 1 if it differs. It is 4 if these images cannot tell, and for refused input.",
)
@click.argument("candidate", type=options.MODEL, metavar="CANDIDATE")
@click.option(
    "--served",
    type=options.MODEL,
    required=True,
    metavar="FILE|MODEL",
    help="The predictions of production: .csv, .parquet or .npz with image, and label or a column "
    "for each class. The column image has the number of the image in the data, from 0, or the "
    "name of its file. Or the served model itself, such as https://HOST/v2/models/NAME, which "
    "is asked.",
)
@options.tolerance_option("The share of predictions that may change (default: 1%).")
@click.option(
    "--served-precision",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    help="State that CANDIDATE's own weights are served, in this precision. Probabilities that "
    "move beyond its noise are a skew (default: unknown, so the loosest precision counts).",
)
@options.model_options
@options.json_option
def skew_command(
    candidate: Path | str,
    served: Path | str,
    tolerance: float,
    served_precision: Precision | None,
    *,
    as_json: bool,
) -> int:
    """Explain served predictions."""
    from harness.features.skew.diagnosis import skew
    from harness.features.skew.report import diagnosis_json, diagnosis_lines

    found = skew(
        candidate,
        served,
        options.project_with(as_json=as_json).request,
        tolerance=tolerance,
        served_precision=served_precision,
    )
    options.say(diagnosis_json(found), diagnosis_lines(found), as_json=as_json)
    return options.STATUSES[found.outcome]
