"""The scope of an export for a checks file, and whether recorded predictions fit a run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from harness.base.errors import AnswersError
from harness.checks.file import PanelSample
from harness.data.exported import FLOAT32, Export
from harness.perturb.poses import PROTOCOL, Pose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.checks import Check, ChecksFile
    from harness.inference import RoleModel

_DIGITS = 12
"""Digits of a definition that tell checks apart."""
_AGAIN = "export again (`stress-harness export-inputs`), and predict its images"


def scope_of(
    checks: ChecksFile, asked: Sequence[Check], *, profile: str, measured: int | None
) -> Export:
    """Return the scope of an export for these checks of a file, without its images.

    Thresholds are no part of it.
    """
    sample = (
        checks.data.sample if isinstance(checks.data.sample, PanelSample) else checks.data.measured
    )
    pixels = (checks.data.pixels, *checks.data.domain.declared().items())
    sizes = repr((sample, sorted(checks.data.samples.items()), *pixels))
    return Export(
        PROTOCOL,
        FLOAT32,
        checks.data.sha256,
        tuple(sorted({check.definition[:_DIGITS] for check in asked})),
        hashlib.sha256(sizes.encode()).hexdigest()[:_DIGITS],
        profile,
        measured or 0,
    )


def scope_of_recorded(
    roles: Mapping[str, RoleModel], checks: ChecksFile, *, profile: str, measured: int | None
) -> Export | None:
    """Return the scope of the exports that models of these roles have answered.

    None where none has.

    Raises `InputError` for answers to an export for other data, checks or options, and for exports
    that differ.
    """
    exports: dict[str, Export] = {}
    for role, model in roles.items():
        if model.provides.live:
            continue

        name = f"{role} {model.path}"
        export: Export | None = model.classifier.predictor.predictor.export  # type: ignore[union-attr]
        if export is None:
            _expect_clean(name, checks)
            continue

        _expect_scope(name, export, checks, profile=profile, measured=measured)
        for other, other_export in exports.items():
            same_families = other_export.families == export.families
            if not same_families or other_export.samples != export.samples:
                raise AnswersError(
                    f"{name} and {other} are of exports of other families or samples; {_AGAIN} "
                    "with both"
                )
        exports[name] = export
    return next(iter(exports.values()), None)


def _expect_clean(name: str, checks: ChecksFile) -> None:
    """Raise `InputError` for predictions of clean images if checks need other ones."""
    posed = [check.id for check in checks.checks if check.pose != Pose()]
    if posed:
        raise AnswersError(
            f"{name} has predictions for clean images only, but {len(posed)} of "
            f"{len(checks.checks)} checks of {checks.path} need others, such as {posed[0]}; "
            f"{_AGAIN}, or keep clean checks"
        )


def _expect_scope(
    name: str, export: Export, checks: ChecksFile, *, profile: str, measured: int | None
) -> None:
    """Raise `InputError` for an export of other data, checks or settings than those of the run."""
    families = export.families
    judged = [check for check in checks.checks if not families or check.family in families]
    wanted = scope_of(checks, judged, profile=profile, measured=measured)
    missing = [check.id for check in judged if check.definition[:_DIGITS] not in export.asked]

    why = ""
    if export.data != wanted.data:
        why = f"of data with SHA-256 {export.data[:12]}…, the run has {wanted.data[:12]}…"
    elif missing:
        count = f"{len(missing)} of {len(checks.checks)} checks of {checks.path}"
        why = f"for other checks: {count} are not among them, such as {missing[0]}"
    elif export.sizes != wanted.sizes:
        why = (
            "for other samples, or another augmentation range or border, than [data] of "
            f"{checks.path} has"
        )
    if why:
        raise AnswersError(f"{name} is of an export {why}; {_AGAIN}")

    for setting, theirs, ours in (
        ("profile", export.profile, wanted.profile),
        ("samples", export.measured, wanted.measured),
    ):
        if theirs != ours:
            raise AnswersError(
                f"{name} is of an export with {theirs or 'all images'}, the run has "
                f"{ours or 'all images'}; use the setting of the export, or export again",
                setting=f"{setting} {ours}" if ours else setting,
            )
