"""The command `calibrate`: thresholds by a panel of reference models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.base.errors import InputError
from harness.cli.options import (
    FILE,
    MODEL,
    OK,
    CommandWithExample,
    checks_option,
    for_gate,
    number,
    passed_on,
    project_with,
    run_options,
    tell,
)

if TYPE_CHECKING:
    from harness.run.budget import Plan


@click.command(
    "calibrate",
    cls=CommandWithExample,
    passes_on=True,
    many=("--checkpoints",),
    example="calibrate --checkpoints runs/seed-*.safetensors",
    help="Set the thresholds of a checks file by a panel of reference models: trained now (a "
    "killed run is resumable), or given as checkpoints.",
)
@click.option(
    "--checkpoints",
    type=MODEL,
    multiple=True,
    metavar="FILE...",
    help="Reference models, three or more; 1 or 2 give provisional thresholds (default: train "
    "them).",
)
@click.option(
    "--reference-models",
    type=int,
    default=20,
    metavar="K",
    help="Number of reference models to train (default: 20).",
)
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Networks to train at a time (default: one per core; on a GPU one).",
)
@run_options("device", "backend")
@click.option(
    "--panel",
    type=FILE,
    metavar="FILE",
    help="The file of all measurements (default: the panel that the checks file's recipe names, "
    "else models/panel.json). Trained networks go into the folder of this name without .json.",
)
@checks_option
@click.option(
    "--family",
    "families",
    multiple=True,
    metavar="NAME",
    help="Measure this family only, on the checkpoints of the panel; may be given several times "
    "(default: all).",
)
@click.option(
    "--check",
    "check_ids",
    multiple=True,
    metavar="ID",
    help="Measure only this check, or those that match a pattern such as 'corrupt-fog-*', and "
    "keep all other measurements; may be given several times (default: all).",
)
@click.option(
    "--budget",
    metavar="TIME",
    help="First choose samples with which the gate takes this time on this machine, such as 30m. "
    "The value none means all images (default: the samples in the checks file).",
)
@click.option(
    "--convert",
    metavar="COMMAND",
    help="Set the thresholds of the family equivalence by conversions: apply this command, such "
    "as 'python export.py {input} {output}', to each model of the panel. It writes {output}, an "
    "ONNX file, or what a suffix such as {output}.xml says (default: none).",
)
@click.option(
    "--power",
    is_flag=True,
    help="Measure nothing: print the minimum detectable drop of each check (95% power), and how "
    "many reference models would detect its allowed loss.",
)
@click.option(
    "--plan",
    is_flag=True,
    help="Set no threshold: print the gain of 3, 5, 8 and 20 reference models, by the panel or "
    "the named checkpoints. It lists checks with a threshold, minimum detectable drop, and time "
    "of training.",
)
@click.option(
    "--drop",
    type=number,
    metavar="LOSS",
    help="With --power: the loss to detect (default: what each check allows).",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also print why each informational check has no threshold.",
)
def calibrate_command(
    checks_path: Path, drop: float | None, *, power: bool, plan: bool, verbose: bool, **chosen: Any
) -> int:
    """Calibrate a checks file."""
    from harness.calibration import calibrate as calibration
    from harness.run.request import request_of

    if any(option.partition("=")[0] == "--stress-budget" for option in passed_on()):
        raise InputError("--stress-budget applies to gate runs; use calibrate --budget, before --")
    # For the power, nothing is measured, and no data are needed.
    model = request_of(for_gate(), root=Path()) if power else project_with(checks_path).request
    request = calibration.CalibrationRequest(
        checks_path,
        **chosen,
        model=model,
        gate_options=for_gate("backend"),  # The backend runs whole runs of the gate.
    )
    if request.convert is not None and (power or plan):
        raise InputError("--convert sets thresholds; leave it out with --power and --plan")
    if power:
        lines = calibration.power(request, drop=drop)
    elif plan:
        lines = calibration.plan(request, on_fit=_print_fit)
    else:
        lines = calibration.calibrate(request, on_fit=_print_fit, reasons=verbose)
    tell(*lines)
    return OK


def _print_fit(fit: Plan) -> None:
    from harness.report.costs import plan_lines as costs_lines

    tell(*costs_lines(fit))
