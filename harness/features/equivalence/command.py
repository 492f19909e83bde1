"""The command `equal`: an export beside the model that it was made from."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "equal",
    cls=options.CommandWithExample,
    example="equal int8.onnx --original models/augmented.safetensors --tolerance 1%",
    help="Say whether an artifact predicts as the model that it was made from, in one sentence and "
    "on one page. An artifact is an export, a quantized or a compiled copy. Exact bounds of "
    "99% confidence decide. The exit status is 0 if the artifact is equal and 1 if it is "
    "different. It is 4 if these images cannot tell, and for refused input. No class and no "
    "group may change by more than 5%.",
)
@click.argument("artifact", type=options.MODEL)
@click.option(
    "--original",
    type=options.MODEL,
    required=True,
    metavar="MODEL",
    help="The model that it was made from.",
)
@options.tolerance_option(
    "The share of predictions that may change, and of correct ones that may be lost, net "
    "(default: 1%)."
)
@click.option(
    "--artifact-normalization",
    metavar="MEAN,STD|none",
    help="The normalization of the artifact alone; none for one that normalizes by itself "
    "(default: that of the original).",
)
@click.option(
    "--artifact-outputs",
    type=click.Choice(["logits", "probabilities"]),
    help="The outputs of the artifact alone; probabilities for an export with a softmax "
    "(default: those of the original).",
)
@options.model_options
@options.page_option("reports/equal.html")
@options.json_option
def equal_command(
    artifact: Path | str, original: Path | str, output: Path, *, as_json: bool, **chosen: Any
) -> int:
    """Compare an artifact with its original."""
    from harness.base.outputs import PAGE
    from harness.features.equivalence.equality import equal
    from harness.features.equivalence.report import equality_json, equality_lines, equality_page
    from harness.run.inputs import inputs_of_command

    model = options.project_with(as_json=as_json).request
    page = options.own_output(output, PAGE, inputs_of_command((artifact, original), model))
    done = equal(artifact, original, model, **chosen)
    line = ["stress-harness", "equal", str(artifact), "--original", str(original)]
    for name in ("tolerance", "artifact_normalization", "artifact_outputs"):
        if (value := chosen[name]) is not None:
            line += [f"--{name.replace('_', '-')}", f"{value:g}" if name == "tolerance" else value]
    page.write(equality_page(done, shlex.join([*line, *options.given_line()])).encode())
    lines = [*equality_lines(done), f"page: {output}"]
    options.say({**equality_json(done), "page": str(output)}, lines, as_json=as_json)
    return options.STATUSES[done.outcome]
