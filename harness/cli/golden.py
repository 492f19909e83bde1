"""The command `golden`: images that must never be wrong again, each a check of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.base.errors import InputError, printable
from harness.cli.options import (
    OK,
    Command,
    checks_option,
    passed_on,
    project_options,
    setting_options,
    values,
)
from harness.run.model_settings import device_setting

if TYPE_CHECKING:
    from harness.checks import ChecksFile
    from harness.checks.golden import GoldenImage


@click.group(
    "golden",
    short_help="Keep images that must never be wrong again.",
    help="Keep images that must never be wrong again, such as those of an incident or a customer's complaint. Each is "
    "a check of its own, in a folder beside the checks file. Data and network are those of the project's pytest "
    "configuration, or named after --, such as -- --stress-data npz:shop.npz.",
    epilog="Example: stress-harness golden add 4071 complaints/coat.png --class Coat --reason 'complaint of 12 May'",
)
def golden_command() -> None:
    """Keep golden images."""


@golden_command.command(
    "add",
    cls=Command,
    passes_on=True,
    example="golden add 4071 complaints/coat.png --class Coat --reason 'complaint of 12 May'",
    help="Add images; each is a check from then on. IMAGE is the number of a test image, as reports name it; a picture "
    "or a folder of pictures, in folders named like their classes unless --class is given.",
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--reason", required=True, metavar="TEXT", help="Why they must be correct; it is shown with them.")
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Their class (default: the label of a test image, the folder of a picture).",
)
@setting_options(device_setting("Where reference models predict them"))
@checks_option
def _add(images: tuple[str, ...], reason: str, class_name: str | None, checks_path: Path) -> int:
    """Add golden images."""
    from harness.run.golden import GoldenRequest, add_golden_images

    data, network = project_options(checks_path, passed_on())
    request = GoldenRequest(checks_path, images, reason, class_name, data, network, values()["device"])
    done = add_golden_images(request, reference_models=_reference_models)
    for image in done.added:
        print(printable(f"{image.id}: {image.source}, {image.class_name}; {_said_of(image, done.unknown)}"))
    print(printable(f"{done.count} golden images, a check each; written: {', '.join(map(str, done.written))}"))
    return OK


def _reference_models(checks: ChecksFile) -> list[tuple[Path, str]]:
    from harness.calibration.panel import read_panel

    if not (named := checks.recipe.get("panel")):
        raise InputError("the checks file names no panel")
    return [(Path(member.path), member.sha256) for member in read_panel(Path(str(named)), checks).models]


def _said_of(image: GoldenImage, unknown: str) -> str:
    if not image.reference:
        return f"how many reference models get it right is not known ({unknown})"
    right, reference_models = image.reference
    if right == reference_models:
        return image.agreed
    return f"only {image.agreed}: this gate fails about {1 - right / reference_models:.0%} of reference models"


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
@checks_option
def _list(checks_path: Path, *, declare: bool) -> int:
    """List golden images."""
    from harness.checks import read_checks
    from harness.checks.golden import picture_of
    from harness.report.text import aligned
    from harness.run.golden import golden_images, images_for

    if declare:
        _declare(checks_path)
    checks = read_checks(checks_path)
    if not checks.golden:
        print(f"{checks_path}: no golden images; `stress-harness golden add` adds one")
        return OK
    rows = [
        [image.id, image.class_name, image.agreed or "not known", image.date, image.source, image.reason]
        for image in checks.golden
    ]
    titles = ["id", "class", "reference models", "added", "from", "reason"]
    print("\n".join(map(printable, aligned([titles, *rows], text=tuple(range(len(titles)))))))
    for image in checks.golden:
        picture_of(image, checks_path)
    if declare:
        data, network = project_options(checks_path, passed_on())
        golden_images(checks, images_for(checks, data, network), data, network.transform)
    return OK


def _declare(checks_path: Path) -> None:
    """Declare the list as it is, and name the pictures beside it that it does not.

    What is wrong with an image is said afterwards: `golden remove` gives up those of a set that is declared.
    """
    from harness.base.files import read_regular
    from harness.checks.golden import LIST, MAX_BYTES, alone_with, folder_of, images_in, write_golden
    from harness.data.image_files import SUFFIXES

    with alone_with(checks_path):
        path = folder_of(checks_path) / LIST
        golden = images_in(read_regular(path, max_bytes=MAX_BYTES), path)
        if not golden:
            raise InputError(
                f"{path}: names no image; restore it from version control, or, if none is to be golden any more, "
                "delete it and take [golden] out of the checks files"
            )
        written = write_golden(checks_path, golden, {})
    print(printable(f"declared: {len(golden)} golden images in {', '.join(map(str, written))}"))
    named = {image.file for image in golden}
    pictures = [file.name for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES]
    if others := [name for name in pictures if name not in named]:
        print(printable(f"not on the list, and left where they are: {', '.join(others)}"))


@golden_command.command(
    "remove",
    cls=Command,
    passes_on=True,
    example="golden remove golden-1a2b3c4d",
    help="Remove images; they are no checks any more.",
)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@checks_option
def _remove(ids: tuple[str, ...], checks_path: Path) -> int:
    """Remove golden images."""
    from harness.checks import read_checks
    from harness.checks.golden import alone_with, write_golden

    with alone_with(checks_path):
        golden = read_checks(checks_path).golden
        known = {image.id for image in golden}
        if unknown := [name for name in ids if name not in known]:
            raise InputError(f"{unknown[0]}: no golden image of {checks_path} has this id; `golden list` names them")
        left = [image for image in golden if image.id not in ids]
        removed = [image for image in golden if image.id in ids]
        written = write_golden(checks_path, left, {}, removed=removed)
    changed = ", ".join(map(str, written))
    print(printable(f"removed: {', '.join(ids)}; {len(left)} golden images are left; written: {changed}"))
    return OK
