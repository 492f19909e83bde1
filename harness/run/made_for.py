"""Whether data and profile are those that a gates file was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import InputError
from harness.gates.slices import expect_groups_of

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.gates import GatesFile


def expect_data_of(gates: GatesFile, images: LabelledImages) -> None:
    """Raise `InputError` unless these are all the images that the gates file was made for, with their groups."""
    made_for = gates.data
    for name, found, expected in (
        ("name", images.name, made_for.name),
        ("split", images.split, made_for.split),
        ("n", len(images), made_for.n),
        ("sha256", images.sha256, made_for.sha256),
    ):
        if found != expected:
            channels, height, width = images.pixels.shape[1:]
            made = f"; {images.pipeline}" if images.pipeline else ""
            raise InputError(
                f"{gates.path}: made for other data: its [data] {name} is {expected!r}, the data at hand have "
                f"{found!r} (images of {height}x{width} pixels, channels: {channels}{made}); name these data's gates "
                "file with --gates, or the gates file's data with --stress-data and the options of their pipeline, or "
                "write a gates file for these with `stress-harness init`"
            )
    expect_groups_of(gates, images)
    if made_for.classes and len(made_for.classes) != len(images.classes):
        raise InputError(
            f"{gates.path}: [data] classes has {len(made_for.classes)} names, the data have {len(images.classes)} "
            "classes; give one name per class, in the order of the labels"
        )


def expect_profile_of(gates: GatesFile, profile: str) -> None:
    """Raise `InputError` for a profile that measures other images than the gates file was made for."""
    if gates.data.sample is not None and profile != "quick":
        raise InputError(
            f"{gates.path}: made for a sample of {gates.data.sample} images, as the quick profile measures it; this is "
            f"the {profile} profile, of all {gates.data.n}: add --stress-profile quick, or name another file with "
            "--gates"
        )
