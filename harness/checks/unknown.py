"""Checks of images of no class: first checks, and a test that images from elsewhere are those of a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError
from harness.checks.check import ChecksError
from harness.checks.starter_check import StarterCheck, in_toml
from harness.measures.unknown import SCORES, UNKNOWN_AUROC, UNKNOWN_FPR95
from harness.perturb.unfamiliar import UNFAMILIAR

if TYPE_CHECKING:
    from harness.checks.file import ChecksFile
    from harness.data import LabelledImages

UNKNOWN = "unknown"
"""The family of these checks, and the key that names their images."""
ELSEWHERE = "elsewhere"
"""The images that the setting `unknown` names."""


def unknown_checks() -> list[StarterCheck]:
    """Return first checks for each kind of images: AUROC by every score, and FPR95 by energy."""
    return [
        StarterCheck(
            f"{UNKNOWN}-{kind}-{'fpr95-' if metric is UNKNOWN_FPR95 else ''}{score}",
            UNKNOWN,
            metric.name,
            (f"{UNKNOWN} = {in_toml(kind)}", f"score = {in_toml(score)}"),
        )
        for kind in (*UNFAMILIAR, ELSEWHERE)
        for metric, scores in ((UNKNOWN_AUROC, SCORES), (UNKNOWN_FPR95, ("energy",)))
        for score in scores
    ]


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
