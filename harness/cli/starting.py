"""The command that makes a gate of a repository, from the package alone: init."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError
from harness.base.settings import add_settings
from harness.cli.models import add_device_option, option_name, settings_of
from harness.cli.status import NEGATIVE, OK
from harness.data.options import DATA_SETTINGS
from harness.networks.options import NETWORK_SETTINGS
from harness.project.initialize import CANDIDATE, CHECKS, TESTS, Initialized, InitRequest, initialize

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_BELOW = 0.05
"""How far below a model's accuracy a first bound by hand is proposed."""


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "init",
        _init,
        "Make a gate in your own repository: stress_tests/ with the tests of the families wanted and a checks file for "
        "your data, the options in your pytest configuration, and a workflow if asked for. Nothing that is there is "
        "overwritten; families named are added to a checks file that lacks them.",
        "init --data folder:photos/test --stress-size 224 --checkpoint runs/a.pth --stress-model "
        "torchvision.models:resnet18 --ci github",
    )
    command.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(),
        metavar="FOLDER",
        help="the repository, from which paths in the other options are seen (default: this folder)",
    )
    command.add_argument(
        "--families",
        metavar="NAMES",
        help="the families of stress tests, joined by commas (default: clean,class,rotation,shift,confidence,"
        "regression, and with --checkpoint pairs; there are consensus, flips, flip, pose, gain, search, attention, "
        "corruption and slice, too)",
    )
    command.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="a first bound by hand, on the accuracy of images as they are, such as 0.9 (default: none, and nothing "
        "checks before thresholds are calibrated or written)",
    )
    command.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="a model whose confusions become rows, and of which is measured how long a run takes",
    )
    command.add_argument(
        "--budget",
        default="30m",
        metavar="TIME",
        help="how long a run of the gate may take on this machine, such as 90s, 30m or 1.5h: where it would take "
        "longer, [data.samples] of the checks file says on how many images each family is measured; none for all "
        "images, whatever they take (default: 30m)",
    )
    command.add_argument("--ci", choices=("github",), help="write a workflow that gates checkpoints, too")
    passed_on: list[argparse.Action] = []

    def add_passed_on(*names: str, **how: Any) -> None:
        passed_on.append(command.add_argument(*names, **how))

    add_settings(add_passed_on, (*DATA_SETTINGS, *NETWORK_SETTINGS), option=option_name)
    add_device_option(command, "Where the model of --checkpoint runs")
    command.add_argument(
        "--update",
        action="store_true",
        help="write nothing: show how the shipped tests have changed since they were written here; ends with 1 if some "
        "have",
    )
    command.add_argument(
        "--write", action="store_true", help="with --update: take over what changed in the tests unedited since"
    )
    command.set_defaults(passed_on=passed_on)


def _init(options: argparse.Namespace) -> int:
    from harness.run.pytest_configuration import gate_options

    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: there is no such folder; make it first")
    if options.write and not options.update:
        raise InputError("--write: only with --update, which says what it would write")
    if options.update:
        return _update(options)
    request = InitRequest(
        options.families,
        options.min_accuracy,
        options.checkpoint,
        options.budget,
        bool(options.ci),
        settings_of(options),
        tuple(gate_options(options.passed_on, options)),
    )
    print("\n".join(_told(initialize(request, options.folder), options)))
    return OK


def _update(options: argparse.Namespace) -> int:
    from harness.project.updating import update

    with contextlib.chdir(options.folder):
        done = update(Path(TESTS), write=options.write)
    taken = f", {len(done.taken)} taken over" if options.write else ""
    print(
        *done.lines,
        f"{done.count} tests, written by version {done.before}: {done.differ} differ from version {done.now}{taken}",
        sep="\n",
    )
    if done.differ and not options.write:
        print("take over those that were not edited with --write; merge the others by hand")
    return NEGATIVE if done.differ else OK


def _told(plan: Initialized, options: argparse.Namespace) -> list[str]:
    """Say what was written, what a run takes, and what to do next."""
    from harness.checks import read_checks
    from harness.checks.starter import offered

    here = options.folder
    families = ", ".join(dict.fromkeys(row.family for row in plan.rows))
    whom = f"for {len(plan.images)} images of {len(plan.images.classes)} classes"
    said = f"{len(plan.rows)} rows of {families}, {whom}"
    if not plan.rows:
        lacking = [name for name in offered() if not read_checks(here / TESTS / CHECKS).family(name)]
        said = f"as they were, {whom}; --families adds some of {', '.join(lacking)}"
    candidate = options.checkpoint or CANDIDATE
    thresholds = [row.id for row in plan.rows if any(entry.startswith("hand") for entry in row.more)]
    return [
        f"checks: {said}",
        *(f"written: {here / path}" for path in plan.written),
        *(f"as it was: {here / path}" for path in plan.unchanged),
        f"with a bound by hand: {', '.join(thresholds) or 'none'}; all else is informational until it is calibrated",
        *_first_threshold(plan, options),
        *_fit_lines(plan, here / TESTS / CHECKS),
        "next:",
        *([] if here == Path() else [f"  cd {shlex.quote(str(here))}"]),
        f"  pytest {TESTS} --candidate {shlex.quote(str(candidate))}",
        "  stress-harness calibrate --checkpoints FILE FILE ...    # 3 or more reference models set the thresholds",
    ]


def _first_threshold(plan: Initialized, options: argparse.Namespace) -> list[str]:
    """Say how good the checkpoint is: a threshold far below cannot tell a damaged model from it."""
    if plan.accuracy is None:
        return []
    said = f"{options.checkpoint}: {plan.accuracy:.1%} of the images are right as they are"
    wanted = options.min_accuracy
    if wanted is None:
        return [
            f"{said}; --min-accuracy makes a first threshold of it, such as {max(plan.accuracy - _BELOW, 0.01):.2f}"
        ]
    if wanted > plan.accuracy:
        return [f"{said}, fewer than --min-accuracy {wanted:g} asks for"]
    if wanted < plan.accuracy - 4 * _BELOW:
        return [f"{said}; a threshold as low as {wanted:g} may not notice a damaged model, and a run then ends with 4"]
    return [said]


def _fit_lines(plan: Initialized, checks: Path) -> list[str]:
    """Say how a run fits into the budget, or why that is not known."""
    from harness.report.costs import fit_lines

    if plan.unfit:
        later = "`stress-harness calibrate --budget 30m` chooses samples that fit"
        return [f"how long a run takes is not known ({plan.unfit}); {later}"]
    if plan.fit is None:
        return []
    kept = f"; the samples stand in {checks}, [data.samples], --budget none leaves them out" if plan.fit.samples else ""
    lines = fit_lines(plan.fit)
    lines[len(plan.fit.after) + 1] += kept  # Behind the table's head and its rows.
    return ["what a run takes:", *lines]
