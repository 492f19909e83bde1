"""Compatibility of data and profile with a checks file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.codes import Code
from harness.base.errors import InputError, some_of
from harness.checks.slices import expect_groups_of

if TYPE_CHECKING:
    from harness.checks import ChecksFile
    from harness.data import LabelledImages


def expect_data_of(checks: ChecksFile, images: LabelledImages) -> None:
    """Raise `InputError` unless these are all the images that the checks file was made for, with their groups."""
    made_for, where = checks.data, f"{checks.path}: [data] classes has"
    for name in ("name", "split", "n", "sha256"):
        found, expected = len(images) if name == "n" else getattr(images, name), getattr(made_for, name)
        if found != expected:
            channels, height, width = images.pixels.shape[1:]
            made = f"; {images.pipeline}" if images.pipeline else ""
            raise InputError(
                f"{checks.path}: made for other data: its [data] {name} is {expected!r}, these data have "
                f"{found!r} (images of {height}x{width} pixels, channels: {channels}{made}). Name the checks file of "
                "these data with --checks, or the data of the checks file with --stress-set data=…. `stress-harness "
                "init` writes a checks file for these data.",
                code=Code.CHECKS,
            )
    expect_groups_of(checks, images)
    if made_for.classes and len(made_for.classes) != len(images.classes):
        raise InputError(
            f"{where} {len(made_for.classes)} names, the data have {len(images.classes)} classes; give one name per "
            "class, in the order of the labels",
            code=Code.CHECKS,
        )
    known = zip(made_for.classes, images.classes, strict=False)
    if moved := [name for name, own in known if name != own and name in images.classes]:
        raise InputError(
            f"{where} {some_of(moved)} in another place than the data; expected their order, "
            f"{some_of(images.classes)}. Correct the order, or remove classes",
            code=Code.CHECKS,
        )


def expect_profile_of(checks: ChecksFile, profile: str) -> None:
    """Raise `InputError` for a profile that measures other images than the checks file was made for."""
    if checks.data.sample is not None and profile != "quick":
        raise InputError(
            f"{checks.path}: made for the quick profile's sample of {checks.data.sample} images, but this is the "
            f"{profile} profile with all {checks.data.n}. Add --stress-profile quick, or name another file with "
            "--checks.",
            code=Code.CHECKS,
        )
