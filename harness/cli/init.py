"""The command `init`: a gate for a repository, from the package alone."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.base.errors import InputError, printable
from harness.cli.options import FILE, MODEL, OK, Command, given, project_with, run_options

if TYPE_CHECKING:
    from harness.calibration.first_gate import Initialized, InitRequest

_BELOW = 0.05
"""Distance of a proposed first threshold by hand below the model's accuracy."""


@click.command(
    "init",
    cls=Command,
    example="init --data folder:test --checkpoint a.pth --model torchvision.models:resnet50 --set "
    "transform=torchvision --set model_args.num_classes=5",
    help="Make a gate in your own repository FOLDER (default: this one). It writes stress_tests/ with the tests of the "
    "families wanted and a checks file. Its table [gate] has the settings given here, also those of --set, for all "
    "commands. Paths in options are relative to the repository. Existing files stay; an existing checks file gets only "
    "the named families that it lacks.",
)
@click.argument("folder", type=FILE, default=Path())
@click.option(
    "--families",
    metavar="NAMES",
    help="The families of stress tests, joined by commas (default: clean, class, class-difference, consensus, "
    "rotation, shift, confidence, regression, flips). Also pairs with --checkpoint, and slice if the data have groups. "
    "Others are flip, pose, gain, search, attention, corruption, skew, equivalence and unknown.",
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
    print("\n".join(_told(initialize(request, folder), request, folder)))
    return OK


_ELSEWHERE = "  stress-harness export-inputs inputs    # for a model elsewhere: predict them, and gate predictions:FILE"


def _told(plan: Initialized, request: InitRequest, here: Path) -> list[str]:
    """Say what was written, what a run takes, and what to do next."""
    from harness.calibration.first_gate import CHECKS, TESTS
    from harness.report.costs import plan_lines

    families = ", ".join(dict.fromkeys(row.family for row in plan.rows))
    whom = f"for {len(plan.images)} images of {len(plan.images.classes)} classes"
    said = f"{len(plan.rows)} new, of {families}, {whom}"
    if not plan.rows:
        said = f"unchanged, {whom}; --families adds some of {', '.join(plan.lacking)}"
    candidate = f"{shlex.quote(str(request.checkpoint))}" if request.checkpoint else "FILE    # a checkpoint of yours"
    cost: list[str] = []
    if plan.unfit:
        later = "`stress-harness calibrate --budget 30m` chooses samples that fit"
        cost = [f"how long a run takes is not known ({plan.unfit}); {later}"]
    elif plan.fit is not None:
        cost = ["cost of a run:", *plan_lines(plan.fit)]
        if plan.fit.samples:  # Behind the table's head and its rows.
            where = f"{here / TESTS / CHECKS}, [data.samples]"
            cost[len(plan.fit.lines) + 3] += f"; the samples stand in {where}, --budget none leaves them out"
    return [
        f"checks: {said}",
        *(f"written: {here / path}" for path in plan.written),
        *(f"unchanged: {here / path}" for path in plan.unchanged),
        *_first_thresholds(plan, request),
        *_group_lines(plan),
        *cost,
        "next:",
        *([] if here == Path() else [f"  cd {shlex.quote(str(here))}"]),
        f"  pytest {TESTS} --candidate {candidate}",
        *([] if request.checkpoint else [_ELSEWHERE]),
        "  stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more reference models set the thresholds",
    ]


def _first_thresholds(plan: Initialized, request: InitRequest) -> list[str]:
    """Return lines on thresholds by hand, and on the checkpoint: one far below its accuracy cannot catch a mutant."""
    from harness.checks.check import UNTIL_CALIBRATED

    held = ", ".join(row.id for row in plan.rows if "hand" in row.more)
    by_hand = f"with a threshold by hand: {held or 'none'}; all others are informational until calibrated"
    lines, wanted, more = [] if plan.lacking else [by_hand], request.min_accuracy, ""
    if plan.accuracy is None:
        return lines
    if wanted is None and any(row.id == "clean" for row in plan.rows):
        first = f'hand = {{ threshold = {max(plan.accuracy - _BELOW, 0.01):.2f}, reason = "{UNTIL_CALIBRATED}" }}'
        more = f"; for a first threshold, write {first} into the check clean"
    elif wanted is not None and wanted > plan.accuracy:
        more = f", below --min-accuracy {wanted:g}"
    elif wanted is not None and wanted < plan.accuracy - 4 * _BELOW:
        more = f"; a threshold as low as {wanted:g} may miss a mutant, and a run then ends with 4"
    return [*lines, f"{request.checkpoint}: clean accuracy {plan.accuracy:.1%}{more}"]


def _group_lines(plan: Initialized) -> list[str]:
    """Return lines on the groups of the data, with the next step if no check is about them."""
    from harness.checks.slices import PAIR, SLICE
    from harness.data.groups import groups_in_words

    groups = {column: values for column, values in plan.images.groups.items() if column != PAIR}
    new = [row for row in plan.rows if row.family == SLICE]
    lacking = SLICE in plan.lacking if plan.lacking else bool(plan.rows)
    if not groups or not (new or lacking):
        return []
    said = printable(groups_in_words(groups))
    if new:
        paired = any("paired_by" in row.more for row in new)
        return [f"groups: {said}" + (f"; differences are compared by the column {PAIR}" if paired else "")]
    return [f"groups: {said}; each group gets a check by", "  stress-harness init --families slice"]
