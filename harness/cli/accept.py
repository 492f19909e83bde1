"""The commands `accept` and `golden`: the model and the images that later candidates are compared with."""

from __future__ import annotations

from pathlib import Path

import click

from harness.base.codes import Code
from harness.base.errors import InputError, printable
from harness.cli.gate import judged
from harness.cli.options import (
    FILE,
    MODEL,
    NEGATIVE,
    OK,
    Command,
    checks_option,
    for_gate,
    passed_on,
    project_with,
    run_options,
)


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

    # The last one counts: another model would be judged under this one's name, or another run's report be read.
    own = ("--candidate", "--checks", "--incumbent", "--original", "--stress-reports")
    if twice := [option for option in (each.partition("=")[0] for each in passed_on()) if option in own]:
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
    request = AcceptRequest(checkpoint, checks_path, incumbent, force, provisional, original, for_gate(), Path.cwd())
    done = accept(request, judge=judged)
    if done.accepted:
        by_force = " by force" if done.forced else ""
        print(f"{checkpoint}: accepted{by_force}, {request.written} is the last accepted model (incumbent) now")
        return OK
    print(f"{checkpoint}: not accepted, {done.reason}")
    return NEGATIVE


@click.group(
    "golden",
    short_help="Keep images that must never be wrong again.",
    help="Keep images that must never be wrong again, such as those of an incident or a customer's complaint. Each is "
    "a check of its own, in a folder beside the checks file. Data and network are those of the project's table [gate], "
    "or given by --set.",
    epilog="Example: stress-harness golden add complaints/coat.png --class Coat --reason 'complaint of 12 May'",
)
def golden_command() -> None:
    """Keep golden images."""


@golden_command.command(
    "add",
    cls=Command,
    passes_on=True,
    example="golden add complaints/coat.png --class Coat --reason 'complaint of 12 May'",
    help="Add images; each is a check from then on. IMAGE is the number of a test image, as reports name it, a picture "
    "or a folder of pictures. Folders have the names of their classes unless --class is given.",
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--reason", required=True, metavar="TEXT", help="Why they must be correct; it is shown with them.")
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Their class (default: the label of a test image, the folder of a picture).",
)
@run_options("device")
@checks_option
def _add(images: tuple[str, ...], reason: str, class_name: str | None, checks_path: Path) -> int:
    """Add golden images."""
    from harness.calibration.panel import reference_models_of
    from harness.run.golden import add_golden_images, agreement

    model, known = project_with(checks_path).request, reference_models_of
    new, total, written, unknown = add_golden_images(
        checks_path, images, model, reason=reason, class_name=class_name, reference_models=known
    )
    for image in new:
        print(printable(f"{image.id}: {image.source}, {image.class_name}; {agreement(image, unknown)}"))
    print(printable(f"golden images, a check each: {total}; written: {', '.join(map(str, written))}"))
    return OK


@golden_command.command(
    "list",
    cls=Command,
    passes_on=True,
    example="golden list",
    help="List the images, and check that each is there and undamaged.",
)
@click.option(
    "--declare",
    is_flag=True,
    help="Declare the list in the checks files, after it was merged or edited by hand.",
)
@run_options()
@checks_option
def _list(checks_path: Path, *, declare: bool) -> int:
    """List golden images."""
    from harness.checks import read_checks
    from harness.checks.golden import picture_of
    from harness.report.page import aligned
    from harness.run.golden import declare_golden_images, golden_images, images_for

    project = project_with(checks_path) if declare else None
    if declare:
        count, written, others = declare_golden_images(checks_path)
        print(printable(f"declared: {count} golden images in {', '.join(map(str, written))}"))
        if others:
            print(printable(f"not on the list, and left where they are: {', '.join(others)}"))
    checks = read_checks(checks_path)
    if not checks.golden:
        print(f"{checks_path}: no golden images; `stress-harness golden add` adds one")
        return OK
    rows = [("id", "class", "reference models", "added", "from", "reason")]
    for image in checks.golden:
        agreed = image.agreed or "not known"
        rows.append((image.id, image.class_name, agreed, image.date, image.source, image.reason))
    print(*map(printable, aligned(rows, text=range(len(rows[0])))), sep="\n")
    for image in checks.golden:
        picture_of(image, checks_path)
    if project:
        model = project.request
        golden_images(checks, images_for(checks, model), model)
    return OK


@golden_command.command(
    "remove",
    cls=Command,
    passes_on=True,
    example="golden remove golden-1a2b3c4d",
    help="Remove images, and with them their checks.",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@checks_option
def _remove(ids: tuple[str, ...], checks_path: Path) -> int:
    """Remove golden images."""
    from harness.run.golden import remove_golden_images

    left, written = remove_golden_images(checks_path, ids)
    changed = ", ".join(map(str, written))
    print(printable(f"removed: {', '.join(ids)}, {left} golden images are left; written: {changed}"))
    return OK
