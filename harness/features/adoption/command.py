"""The command `init`: a gate for a repository, from the package alone."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from harness.base.errors import InputError
from harness.cli import options


@click.command(
    "init",
    cls=options.CommandWithExample,
    example="init --data folder:test --checkpoint a.pth --model torchvision.models:resnet50 --set "
    "transform=torchvision --set model_args.num_classes=5",
    help="Make a gate in your own repository FOLDER (default: this one). It writes a checks file "
    "with checks of the families wanted, stress_tests/checks.toml; their tests are those of "
    "this package. The table [gate] has the settings given here, also those of --set, for all "
    "commands. Paths in options are relative to the repository. Existing files stay; an "
    "existing checks file gets only the named families that it lacks.",
)
@click.argument("folder", type=options.FILE, default=Path())
@click.option(
    "--families",
    metavar="NAMES",
    help="The families of checks, joined by commas (default: clean, class, class-difference, "
    "consensus, confidence, label_probability, regression, flips). Also pairs with --checkpoint, "
    "slice if the data have groups, and rotation, shift, flip and augmentation_gap with "
    "--augmentation. Others are soft_confusion, batch_norm, fingerprint, slices, shortcut, "
    "trigger, pose, gain, search, attention, corruption, skew, equivalence and unknown.",
)
@options.augmentation_option(
    'The range in which checks hold a model, such as "rotate=10,shift_x=6,flip=false": degrees, '
    "pixels to the sides (shift_x) and up and down (shift_y), and horizontal flips. Limits that "
    "are not named are 0 or false (default: no checks of rotated, shifted or flipped images)."
)
@click.option(
    "--copy",
    "copied",
    multiple=True,
    metavar="FAMILY",
    help="Copy the stress tests of this family into stress_tests/, to change them; a copy replaces "
    "the packaged file. It may be given several times (default: none).",
)
@click.option(
    "--min-accuracy",
    type=options.number,
    metavar="SHARE",
    help="A first threshold by hand, on clean accuracy, such as 0.9 (default: none; nothing gates "
    "before thresholds are calibrated or written).",
)
@click.option(
    "--checkpoint",
    type=options.MODEL,
    metavar="FILE",
    help="A model whose confusions become checks, and whose run is timed. A new checks file gets "
    "provisional thresholds from it as the first reference model (default: none).",
)
@click.option(
    "--no-calibrate",
    is_flag=True,
    help="Set no thresholds by the --checkpoint (default: set them in a new gate).",
)
@click.option(
    "--budget",
    default="30m",
    metavar="TIME",
    help="Time limit for a run of the gate on this machine, such as 90s, 30m or 1.5h; none means "
    "all images (default: 30m). If all images take longer, [data.samples] of the checks file gets "
    "a sample for each family.",
)
@click.option(
    "--ci",
    type=click.Choice(["github"]),
    help="Write a workflow that gates checkpoints, too (default: none).",
)
@options.run_options("data", "size", "model", "device")
def init_command(folder: Path, ci: str | None, **chosen: Any) -> int:
    """Make a gate."""
    from harness.features.adoption.gate_files import InitRequest, initialize
    from harness.run.settings import IN_TABLE

    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; make it first")
    with contextlib.chdir(folder):
        project = options.project_with()
    given = options.given()
    gate = {name: given[name] for name in IN_TABLE if name in given}
    request = InitRequest(**chosen, workflow=ci is not None, model=project.request, gate=gate)
    options.tell(*initialize(request, folder))
    return options.OK
