"""Checks of images of no class: a test that images from elsewhere are those of a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.checks.check import ChecksError
from harness.checks.first_checks import ELSEWHERE

if TYPE_CHECKING:
    from harness.checks.file import ChecksFile
    from harness.data import LabelledImages

UNKNOWN = "unknown"
"""The family of these checks, and the key that names their images."""


def expect_elsewhere_of(checks: ChecksFile, elsewhere: LabelledImages | None, *, recording: bool) -> None:
    """Raise `InputError` for images from elsewhere that no check measures, or that a check's SHA-256 does not match.

    A check with a panel threshold must name its images by their SHA-256. While a panel is recorded, every check must.
    """
    about = [check for check in checks.family(UNKNOWN) if check.keys.get(UNKNOWN) == ELSEWHERE]
    if elsewhere is None:
        return
    if not about:
        by_command = "" if checks.family(UNKNOWN) else f"run `stress-harness init --families {UNKNOWN}`, or "
        raise InputError(
            f"names images, but no check of {checks.path} measures them; {by_command}add a check of family "
            f'"{UNKNOWN}" with {UNKNOWN} = "{ELSEWHERE}"',
            setting=UNKNOWN,
        )
    for check in about:
        named = check.keys.get("sha256")
        if named is None and (recording or check.binding is check.panel is not None):
            raise ChecksError(
                f"{checks.path}: check {check.id!r}: its threshold is for certain images, but it names none; add "
                f'sha256 = "{elsewhere.sha256}" for the images {elsewhere.name}, and calibrate'
            )
        if named not in {None, elsewhere.sha256}:
            raise ChecksError(
                f"{checks.path}: check {check.id!r}: sha256 is {str(named)[:12]}…, the images {elsewhere.name} have "
                f"{elsewhere.sha256[:12]}…; name the images of its calibration, or calibrate it for these"
            )
