"""The command that keeps images that must never be wrong again, each a check of its own: golden."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import InputError, printable
from harness.cli.gating import add_checks_option
from harness.cli.models import add_device_option
from harness.cli.status import OK

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.checks import ChecksFile
    from harness.checks.golden import GoldenImage
    from harness.data.options import DataOptions
    from harness.networks import NetworkOptions


def add_commands(add: Callable[[str, object, str, str], argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    command = add(
        "golden",
        None,
        "Keep images that must never be wrong again, such as those of an incident or a customer's complaint: each is a "
        "gate of its own, in a folder beside the checks file. Data and network are those of the project's pytest "
        "configuration, or named after --, such as -- --stress-data npz:shop.npz.",
        'golden add 4071 complaints/coat.png --class Coat --reason "complaint of 12 May"',
    )
    actions = command.add_subparsers(required=True, metavar="add|list|remove")
    adding = actions.add_parser("add", help="add images", description="Add images; each is a check from then on.")
    adding.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="the number of a test image, as reports name it; a picture; or a folder of pictures, in folders named "
        "like their classes unless --class is given",
    )
    adding.add_argument("--reason", required=True, metavar="TEXT", help="why they must be right: it is shown with them")
    adding.add_argument(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="what they are of (default: the label of a test image, the folder of a picture)",
    )
    add_device_option(adding, "Where reference models are asked about them")
    listing = actions.add_parser(
        "list", help="list them", description="List the images, and check that each is there and undamaged."
    )
    listing.add_argument(
        "--declare",
        action="store_true",
        help="declare the list as it is in the checks files, after it was merged or edited by hand",
    )
    removing = actions.add_parser("remove", help="remove images", description="Remove images, which gate no more.")
    removing.add_argument("ids", nargs="+", metavar="ID", help="as listed, such as golden-1a2b3c4d")
    for action, run in ((adding, _add), (listing, _list), (removing, _remove)):
        add_checks_option(action)
        action.set_defaults(run=run, passes_on=True)


def _add(options: argparse.Namespace) -> int:
    from harness.run.golden import GoldenRequest, add_golden_images

    data, network = _options_of(options)
    request = GoldenRequest(
        options.checks, tuple(options.images), options.reason, options.class_name, data, network, options.device
    )
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


def _options_of(options: argparse.Namespace) -> tuple[DataOptions, NetworkOptions]:
    """Return what is said of data and networks, in the project's configuration and after --."""
    from harness.base.settings import add_settings, values_in
    from harness.data.options import DATA_SETTINGS, DataOptions
    from harness.networks import NetworkOptions
    from harness.networks.options import NETWORK_SETTINGS
    from harness.run.pytest_configuration import added_options

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_settings(parser.add_argument, (*DATA_SETTINGS, *NETWORK_SETTINGS))
    given = values_in(parser.parse_known_args([*added_options(options.checks.parent), *options.options])[0])
    return DataOptions.of(given), NetworkOptions.of(given)


def _list(options: argparse.Namespace) -> int:
    from harness.checks import read_checks
    from harness.checks.golden import picture_of
    from harness.report.text import aligned
    from harness.run.golden import golden_images, images_for

    if options.declare:
        _declare(options)
    checks = read_checks(options.checks)
    if not checks.golden:
        print(f"{options.checks}: no golden images; `stress-harness golden add` adds one")
        return OK
    rows = [
        [image.id, image.class_name, image.agreed or "not known", image.date, image.source, image.reason]
        for image in checks.golden
    ]
    titles = ["id", "class", "reference models", "added", "from", "reason"]
    print("\n".join(map(printable, aligned([titles, *rows], text=tuple(range(len(titles)))))))
    for image in checks.golden:
        picture_of(image, options.checks)
    if options.declare:
        data, network = _options_of(options)
        golden_images(checks, images_for(checks, data, network), data, network.transform)
    return OK


def _declare(options: argparse.Namespace) -> None:
    """Declare the list as it is, and name the pictures beside it that it does not.

    What is wrong with an image is said afterwards: `golden remove` gives up those of a set that is declared.
    """
    from harness.base.files import read_regular
    from harness.checks.golden import LIST, MAX_BYTES, alone_with, folder_of, images_in, write_golden
    from harness.data.image_files import SUFFIXES

    with alone_with(options.checks):
        path = folder_of(options.checks) / LIST
        golden = images_in(read_regular(path, max_bytes=MAX_BYTES), path)
        if not golden:
            raise InputError(
                f"{path}: names no image; restore it from version control, or, if none is to be golden any more, "
                "delete it and take [golden] out of the checks files"
            )
        written = write_golden(options.checks, golden, {})
    print(printable(f"declared: {len(golden)} golden images in {', '.join(map(str, written))}"))
    named = {image.file for image in golden}
    pictures = [file.name for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES]
    if others := [name for name in pictures if name not in named]:
        print(printable(f"not on the list, and left where they are: {', '.join(others)}"))


def _remove(options: argparse.Namespace) -> int:
    from harness.checks import read_checks
    from harness.checks.golden import alone_with, write_golden

    with alone_with(options.checks):
        golden = read_checks(options.checks).golden
        known = {image.id for image in golden}
        if unknown := [name for name in options.ids if name not in known]:
            raise InputError(f"{unknown[0]}: no golden image of {options.checks} has this id; `golden list` names them")
        left = [image for image in golden if image.id not in options.ids]
        removed = [image for image in golden if image.id in options.ids]
        written = write_golden(options.checks, left, {}, removed=removed)
    changed = ", ".join(map(str, written))
    print(printable(f"removed: {', '.join(options.ids)}; {len(left)} golden images are left; written: {changed}"))
    return OK
