"""The command `accept`: it makes a checkpoint, or an ONNX file with its original, the incumbent."""

from __future__ import annotations

from pathlib import Path

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli.gate import judged
from harness.cli.options import FILE, MODEL, NEGATIVE, OK, Command, checks_option, for_gate, refuse_own, run_options


@click.command(
    "accept",
    cls=Command,
    passes_on=True,
    example="accept runs/new.safetensors",
    help="Run the gate on a checkpoint and, if it passes, make it the incumbent, which later candidates are compared "
    "with. An ONNX file also has to be equal to its original, unless all models are ONNX files.",
)
@click.argument("checkpoint", type=MODEL, metavar="CHECKPOINT")
@click.option("--force", is_flag=True, help="Accept it though the verdict is fail or partial; the file records that.")
@click.option(
    "--provisional",
    is_flag=True,
    help="Accept it though its thresholds rest on one or two reference models; the file records that.",
)
@click.option(
    "--original",
    type=MODEL,
    metavar="MODEL",
    help="The model that it was made from, by an export or quantization; both have to be equal by the checks file "
    "(default: none).",
)
@click.option(
    "--incumbent",
    type=FILE,
    default=Path("models/incumbent.safetensors"),
    metavar="FILE",
    help="The file to write, with its declaration beside it (default: models/incumbent.safetensors). A copy of an ONNX "
    "file has the suffix .onnx instead.",
)
@run_options()
@checks_option
def accept_command(
    checkpoint: Path | str,
    original: Path | str | None,
    incumbent: Path,
    checks_path: Path,
    *,
    force: bool,
    provisional: bool,
) -> int:
    """Gate a checkpoint and accept it."""
    from harness.run.acceptance import AcceptRequest, accept

    refuse_own("--candidate", "--checks", "--incumbent", "--original", "--stress-reports")
    if isinstance(checkpoint, str):
        raise InputError(
            f"{checkpoint}: not accepted, a predictor has no file of weights to keep; name it with --incumbent where "
            "the gate runs",
            code=Code.NOT_ACCEPTED,
        )
    request = AcceptRequest(checkpoint, checks_path, incumbent, force, provisional, original, for_gate(), Path.cwd())
    done = accept(request, judge=judged)
    if done.accepted:
        by_force = " by force" if done.forced else ""
        print(f"{checkpoint}: accepted{by_force}, {request.written} is the last accepted model (incumbent) now")
        return OK
    print(f"{checkpoint}: not accepted, {done.reason}")
    return NEGATIVE
