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
    help="Run the gate on a checkpoint and, if it passes, make it the incumbent, which later "
    "candidates are compared with. An ONNX file also has to be equal to its original, unless all "
    "models are ONNX files.",
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
    help="Accept it though its thresholds rest on one or two reference models; the file records "
    "that.",
)
@click.option(
    "--original",
    type=options.MODEL,
    metavar="MODEL",
    help="The model that it was made from, by an export or quantization; both have to be equal by "
    "the checks file (default: none).",
)
@click.option(
    "--grow-panel/--no-grow-panel",
    "grow_panel",
    default=None,
    help="Add the accepted model to the reference panel, and set the thresholds anew. Only another "
    "training of the recipe can join (default: for the panel of a gate that `init --checkpoint` "
    "made, up to 8 reference models).",
)
@click.option(
    "--incumbent",
    type=options.FILE,
    default=Path("models/incumbent.safetensors"),
    metavar="FILE",
    help="The file to write, with its declaration beside it (default: "
    "models/incumbent.safetensors). A copy of an ONNX file has the suffix .onnx instead.",
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

    _expect_no_own_options()
    if isinstance(checkpoint, str):
        raise InputError(
            f"{checkpoint}: not accepted, a predictor has no file of weights to keep; name it with "
            "--incumbent where the gate runs",
            code=Code.NOT_ACCEPTED,
        )

    request = AcceptRequest(
        checkpoint, checks_path, incumbent, force, provisional, original, options.for_gate()
    )
    options.tell(*_finished_growth(request))

    why, forced = accept(request, judge=partial(judged, in_terminal=True))
    if why:
        options.tell(f"{checkpoint}: not accepted, {why}")
        return options.NEGATIVE

    by_force = " by force" if forced else ""
    options.tell(
        f"{checkpoint}: accepted{by_force}, {request.written} is the last accepted model "
        "(incumbent) now"
    )

    # By default, only a model that passed by itself, from a training, may set thresholds.
    may_grow = not forced and original is None
    if grow_panel or (grow_panel is None and may_grow):
        options.tell(*_grown_panel(request, wanted=grow_panel))
    return options.OK


def _expect_no_own_options() -> None:
    """Raise `InputError` if options that the command itself sets are passed on to pytest.

    The last one counts there: another model would be judged under the name of the checkpoint, or
    the report of another run be read.
    """
    own = ("--candidate", "--checks", "--incumbent", "--original", "--stress-reports")
    for argument in options.passed_on():
        option = argument.partition("=")[0]
        if option in own:
            raise InputError(
                f"{option} after --: the command itself sets the candidate, the checks file and "
                "the folder of reports; leave it out there"
            )


def _finished_growth(request: AcceptRequest) -> list[str]:
    """Set the thresholds that an interrupted acceptance left behind; return lines about it."""
    from harness.calibration.growth import finish_growth

    calibration = _calibration(request)
    try:
        return finish_growth(calibration)
    except InputError as error:
        return [f"the thresholds are unchanged: {error}"]


def _grown_panel(request: AcceptRequest, *, wanted: bool | None) -> list[str]:
    """Add the accepted model to the panel; return lines about it.

    A model that cannot join stays accepted.
    """
    from harness.calibration.growth import grow
    from harness.run.request import request_of

    settings = request_of(request.gate_options, root=Path.cwd())
    try:
        return grow(request.written, _calibration(request), settings, wanted=wanted)
    except InputError as error:
        return [f"the reference panel is unchanged: {error}"]


def _calibration(request: AcceptRequest) -> CalibrationRequest:
    """Return the calibration of the checks file that judged the checkpoint."""
    from harness.calibration.calibrate import CalibrationRequest
    from harness.run.request import request_of

    settings = request_of(request.gate_options, root=Path.cwd())
    return CalibrationRequest(
        request.checks_path, model=settings, gate_options=options.for_gate("backend")
    )
