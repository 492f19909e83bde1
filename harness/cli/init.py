"""The command `init`: a gate for a repository, from the package alone."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.base.errors import InputError
from harness.cli.options import FILE, MODEL, OK, Command, given, project_with, run_options

if TYPE_CHECKING:
    from harness.calibration.first_gate import Initialized, InitRequest


@click.command(
    "init",
    cls=Command,
    example="init --data folder:test --checkpoint a.pth --model torchvision.models:resnet50 --set "
    "transform=torchvision --set model_args.num_classes=5",
    help="Make a gate in your own repository FOLDER (default: this one). It writes a checks file with checks of the "
    "families wanted, stress_tests/checks.toml; their tests are those of this package. The table [gate] has the "
    "settings given here, also those of --set, for all commands. Paths in options are relative to the repository. "
    "Existing files stay; an existing checks file gets only the named families that it lacks.",
)
@click.argument("folder", type=FILE, default=Path())
@click.option(
    "--families",
    metavar="NAMES",
    help="The families of checks, joined by commas (default: clean, class, class-difference, consensus, "
    "rotation, shift, confidence, regression, flips). Also pairs with --checkpoint, and slice if the data have groups. "
    "Others are flip, pose, gain, search, attention, corruption, skew, equivalence and unknown.",
)
@click.option(
    "--copy",
    "copied",
    multiple=True,
    metavar="FAMILY",
    help="Copy the stress tests of this family into stress_tests/, to change them; a copy replaces the packaged file. "
    "It may be given several times (default: none).",
)
@click.option(
    "--min-accuracy",
    type=float,
    metavar="SHARE",
    help="A first threshold by hand, on clean accuracy, such as 0.9 (default: none; nothing gates before thresholds "
    "are calibrated or written).",
)
@click.option(
    "--checkpoint",
    type=MODEL,
    metavar="FILE",
    help="A model whose confusions become checks, and whose run is timed (default: none).",
)
@click.option(
    "--budget",
    default="30m",
    metavar="TIME",
    help="Time limit for a run of the gate on this machine, such as 90s, 30m or 1.5h; none means all images "
    "(default: 30m). If all images take longer, [data.samples] of the checks file gets a number of images for each "
    "family.",
)
@click.option(
    "--ci", type=click.Choice(["github"]), help="Write a workflow that gates checkpoints, too (default: none)."
)
@run_options("data", "size", "model", "device")
def init_command(folder: Path, ci: str | None, **chosen: Any) -> int:
    """Make a gate."""
    from harness.calibration.first_gate import InitRequest, initialize
    from harness.run.settings import IN_TABLE

    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make it first")
    with contextlib.chdir(folder):
        project = project_with()
    gate = {name: given()[name] for name in IN_TABLE if name in given()}
    request = InitRequest(**chosen, workflow=ci is not None, model=project.request, gate=gate)
    print("\n".join(_lines(initialize(request, folder), request, folder)))
    return OK


def _lines(done: Initialized, request: InitRequest, here: Path) -> list[str]:
    """Return lines on what was written, the cost of a run, and what to do next."""
    from harness.calibration.first_gate import CHECKS, TESTS
    from harness.report.costs import plan_lines

    cost: list[str] = []
    if done.unfit:
        later = "`stress-harness calibrate --budget 30m` chooses samples that fit"
        cost = [f"how long a run takes is not known ({done.unfit}); {later}"]
    elif done.fit is not None:
        cost = ["cost of a run:", *plan_lines(done.fit)]
        if done.fit.samples:  # Behind the table's head and its rows.
            where = f"{here / TESTS / CHECKS}, [data.samples]"
            cost[len(done.fit.lines) + 3] += f"; the samples stand in {where}, --budget none leaves them out"
    steps = [f"pytest {TESTS} --candidate FILE    # a checkpoint of yours"]
    steps += ["stress-harness export-inputs inputs    # for a model elsewhere: predict them, and gate predictions:FILE"]
    if request.checkpoint:
        steps = [f"pytest {TESTS} --candidate {shlex.quote(str(request.checkpoint))}"]
    if here != Path():
        steps.insert(0, f"cd {shlex.quote(str(here))}")
    steps += ["stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more reference models set the thresholds"]
    return [*done.lines, *cost, "next:", *(f"  {step}" for step in steps)]
