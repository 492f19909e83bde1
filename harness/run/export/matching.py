"""Recorded predictions and the run that judges them: they must be of one export, for these checks and data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import AnswersError
from harness.inference.predictors.recorded import RecordedAnswers
from harness.perturb import IDENTITY
from harness.run.export.request import asked_by, scope_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.checks import ChecksFile
    from harness.data.exported import Export
    from harness.inference import RoleModel

AGAIN = "export again (`stress-harness export-inputs`), and predict its images"


def scope_of_recorded(
    roles: Mapping[str, RoleModel], checks: ChecksFile, *, profile: str, measured: int | None
) -> Export | None:
    """Return the scope of the exports that models of these roles have answered; None where none has.

    Raises `InputError` for answers to an export for other data, checks or options, and for exports that differ.
    """
    found: dict[str, Export] = {}
    for role, model in roles.items():
        answers = getattr(model.classifier.plain, "predictor", None)
        if not isinstance(answers, RecordedAnswers):
            continue
        name = f"{role} {model.path}"
        if answers.export is None:
            if posed := [check.id for check in checks.checks if check.pose != IDENTITY]:
                raise AnswersError(
                    f"{name} has predictions for clean images only, but {len(posed)} of {len(checks.checks)} checks of "
                    f"{checks.path} need others, such as {posed[0]}; {AGAIN}, or keep clean checks"
                )
            continue
        judged = [check for check in checks.checks if check.family in (answers.export.families or {check.family})]
        wanted = scope_of(checks, judged, pixels=answers.export.pixels, profile=profile, measured=measured)
        _expect_scope(name, answers.export, wanted, checks)
        for other, export in found.items():
            if (export.families, export.samples) != (answers.export.families, answers.export.samples):
                raise AnswersError(f"{name} and {other} are of exports of other families or samples; {AGAIN} with both")
        found[name] = answers.export
    return next(iter(found.values()), None)


def _expect_scope(name: str, export: Export, wanted: Export, checks: ChecksFile) -> None:
    if export.data != wanted.data:
        raise AnswersError(
            f"{name} is of an export of data with SHA-256 {export.data[:12]}…, the run has {wanted.data[:12]}…; {AGAIN}"
        )
    if unasked := set(wanted.asked) - set(export.asked):
        new = [check.id for check in checks.checks if unasked.intersection(asked_by([check]))]
        raise AnswersError(
            f"{name} is of an export for other checks: {len(new)} of {len(checks.checks)} checks of {checks.path} "
            f"are not among them, such as {new[0]}; {AGAIN}"
        )
    if export.sizes != wanted.sizes:
        raise AnswersError(f"{name} is of an export for other samples than [data] of {checks.path} has; {AGAIN}")
    for setting, theirs, ours in (
        ("profile", export.profile, wanted.profile),
        ("samples", export.measured or None, wanted.measured or None),
    ):
        if theirs != ours:
            raise AnswersError(
                f"{name} is of an export with {theirs or 'all images'}, the run has {ours or 'all images'}; use the "
                "setting of the export, or export again",
                setting=f"{setting} {ours}" if ours else setting,
            )
