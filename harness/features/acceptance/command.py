"""The command `accept`: a checkpoint that passes the gate becomes the incumbent."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.codes import Code
from harness.base.errors import InputError
from harness.cli import options

if TYPE_CHECKING:
    from harness.calibration.calibrate import CalibrationRequest
    from harness.features.acceptance.acceptance import AcceptRequest


@click.command(
    "accept",
    cls=options.CommandWithExample,
    passes_on=True,
    example="accept runs/new.safetensors",
    help="Run the gate on a checkpoint and, if it passes, make it the incumbent, which later candidates are compared "
    "with. An ONNX file also has to be equal to its original, unless all models are ONNX files.",
)
@click.argument("checkpoint", type=options.MODEL, metavar="CHECKPOINT")
@click.option(
    "--force",
    is_flag=True,
    help="Accept it though the verdict is fail or partial; the file records that.",
)
@click.option(
    "--provisional",
    is_flag=True,
    help="Accept it though its thresholds rest on one or two reference models; the file records that.",
)
@click.option(
    "--original",
    type=options.MODEL,
    metavar="MODEL",
    help="The model that it was made from, by an export or quantization; both have to be equal by the checks file "
    "(default: none).",
)
@click.option(
    "--grow-panel/--no-grow-panel",
    "grow_panel",
    default=None,
    help="Add the accepted model to the reference panel, and set the thresholds anew. Only another training of the "
    "recipe can join (default: for the panel of a gate that `init --checkpoint` made, up to 8 reference models).",
)
@click.option(
    "--incumbent",
    type=options.FILE,
    default=Path("models/incumbent.safetensors"),
    metavar="FILE",
    help="The file to write, with its declaration beside it (default: models/incumbent.safetensors). A copy of an ONNX "
    "file has the suffix .onnx instead.",
)
@options.run_options()
@options.checks_option
def accept_command(
    checkpoint: Path | str,
    original: Path | str | None,
    incumbent: Path,
    checks_path: Path,
    *,
    force: bool,
    provisional: bool,
    grow_panel: bool | None,
) -> int:
    """Gate a checkpoint and accept it."""
    from harness.features.acceptance.acceptance import AcceptRequest, accept
    from harness.report.api import judged

    # The last one counts: another model would be judged under this one's name, or another run's report be read.
    own = ("--candidate", "--checks", "--incumbent", "--original", "--stress-reports")
    if twice := [
        option
        for option in (each.partition("=")[0] for each in options.passed_on())
        if option in own
    ]:
        raise InputError(
            f"{twice[0]} after --: the command itself sets the candidate, the checks file and the folder of reports; "
            "leave it out there"
        )
    if isinstance(checkpoint, str):
        raise InputError(
            f"{checkpoint}: not accepted, a predictor has no file of weights to keep; name it with --incumbent where "
            "the gate runs",
            code=Code.NOT_ACCEPTED,
        )
    request = AcceptRequest(
        checkpoint, checks_path, incumbent, force, provisional, original, options.for_gate()
    )
    options.tell(*_finished(request))
    why, forced = accept(request, judge=partial(judged, in_terminal=True))
    if why:
        options.tell(f"{checkpoint}: not accepted, {why}")
        return options.NEGATIVE
    by_force = " by force" if forced else ""
    options.tell(
        f"{checkpoint}: accepted{by_force}, {request.written} is the last accepted model (incumbent) now"
    )
    if grow_panel or (grow_panel is None and not forced and original is None):
        options.tell(*_grown(request, wanted=grow_panel))
    return options.OK


def _finished(request: AcceptRequest) -> list[str]:
    """Return lines on the thresholds that an interrupted acceptance has left behind, which are set now."""
    from harness.calibration.growth import finish_growth

    calibration = _calibration(request)
    try:
        return finish_growth(calibration)
    except InputError as error:
        return [f"the thresholds are unchanged: {error}"]


def _grown(request: AcceptRequest, *, wanted: bool | None) -> list[str]:
    """Return lines on the panel with the accepted model in it; what keeps it out does not undo the acceptance."""
    from harness.calibration.growth import grow
    from harness.run.request import request_of

    settings = request_of(request.gate_options, root=Path.cwd())
    try:
        return grow(request.written, _calibration(request), settings, wanted=wanted)
    except InputError as error:
        return [f"the reference panel is unchanged: {error}"]


def _calibration(request: AcceptRequest) -> CalibrationRequest:
    from harness.calibration.calibrate import CalibrationRequest
    from harness.run.request import request_of

    settings = request_of(request.gate_options, root=Path.cwd())
    return CalibrationRequest(
        request.checks_path, model=settings, gate_options=options.for_gate("backend")
    )
