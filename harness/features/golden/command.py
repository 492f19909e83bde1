"""The command `golden`: images that must never be wrong again are added, listed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from pathlib import Path


@click.group(
    "golden",
    invoke_without_command=True,
    short_help="Keep images that must never be wrong again.",
    help="Keep images that must never be wrong again, such as those of an incident or a customer's "
    "complaint. Each is a check of its own, in a folder beside the checks file. Data and "
    "network are those of the project's table [gate], or given by --set.",
    epilog="Example: stress-harness golden add complaints/coat.png --class Coat --reason "
    "'complaint of 12 May'",
)
@click.pass_context
def golden_command(context: click.Context) -> None:
    """Keep golden images."""
    options.help_without_command(context)


@golden_command.command(
    "add",
    cls=options.CommandWithExample,
    passes_on=True,
    example="golden add complaints/coat.png --class Coat --reason 'complaint of 12 May'",
    help="Add images; each is a check from then on. IMAGE is the number of a test image, as "
    "reports name it, a picture or a folder of pictures. Folders have the names of their "
    "classes unless --class is given.",
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--reason",
    required=True,
    metavar="TEXT",
    help="Why they must be correct; it is shown with them.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Their class (default: the label of a test image, the folder of a picture).",
)
@options.run_options("device")
@options.checks_option
def _add(images: tuple[str, ...], reason: str, class_name: str | None, checks_path: Path) -> int:
    """Add golden images."""
    from harness.features.golden.changes import add

    model = options.project_with(checks_path).request
    new, total, written, unknown = add(
        checks_path, images, model, reason=reason, class_name=class_name
    )
    for image in new:
        said = (
            image.agreed
            or f"how many reference models predict it correctly is not known ({unknown})"
        )
        if image.reference and image.reference[0] < image.reference[1]:
            share = 1 - image.reference[0] / image.reference[1]
            said += f": this check fails about {share:.0%} of reference models"
        options.tell(f"{image.id}: {image.source}, {image.class_name}; {said}")
    options.tell(f"golden images, a check each: {total}; written: {', '.join(map(str, written))}")
    return options.OK


@golden_command.command(
    "list",
    cls=options.CommandWithExample,
    passes_on=True,
    example="golden list",
    help="List the images, and check that each is there and undamaged.",
)
@click.option(
    "--declare",
    is_flag=True,
    help="Declare the list in the checks files, after it was merged or edited by hand.",
)
@options.run_options()
@options.checks_option
def _list(checks_path: Path, *, declare: bool) -> int:
    """List golden images."""
    from harness.checks import read_checks
    from harness.features.golden import changes, golden_set
    from harness.report.page import aligned

    project = options.project_with(checks_path) if declare else None
    if declare:
        count, written, others = changes.declare(checks_path)
        options.tell(f"declared: {count} golden images in {', '.join(map(str, written))}")
        if others:
            options.tell(f"not on the list, and left where they are: {', '.join(others)}")
    checks = read_checks(checks_path)
    if not (golden := golden_set.golden_set(checks)):
        options.tell(f"{checks_path}: no golden images; `stress-harness golden add` adds one")
        return options.OK
    rows = [("id", "class", "reference models", "added", "from", "reason")]
    rows += [
        (each.id, each.class_name, each.agreed or "not known", each.date, each.source, each.reason)
        for each in golden
    ]
    options.tell(*aligned(rows, text=range(len(rows[0]))))
    for image in golden:
        golden_set.picture_of(image, checks_path)
    if project:
        golden_set.labelled_images(
            checks, changes.images_for(checks, project.request), project.request
        )
    return options.OK


@golden_command.command(
    "remove",
    cls=options.CommandWithExample,
    passes_on=True,
    example="golden remove golden-1a2b3c4d",
    help="Remove images, and with them their checks.",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.checks_option
def _remove(ids: tuple[str, ...], checks_path: Path) -> int:
    """Remove golden images."""
    from harness.features.golden.changes import remove

    left, written = remove(checks_path, ids)
    changed = ", ".join(map(str, written))
    options.tell(f"removed: {', '.join(ids)}, {left} golden images are left; written: {changed}")
    return options.OK
