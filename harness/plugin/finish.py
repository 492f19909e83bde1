"""The outcome of a gate run, by what its tests, its self-checks and the comparison of its models reported."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import InputError, reason
from harness.base.features import families_with_rows
from harness.base.files import hash_of_file
from harness.checks import read_checks
from harness.plugin.looking_back import tried
from harness.plugin.refusing import command_of, run_id_of
from harness.run.earlier_runs import with_history
from harness.run.margins import worst_first
from harness.run.outcome import ReportImages
from harness.run.reported import outcome_of
from harness.run.shown import ROWS_PICTURED
from harness.run.status import REPORT
from harness.run.stress_json import record_and_images

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.plugin.run import GateRun
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession


def finish(run: GateRun) -> Outcome:
    """Set the outcome of a run, as its record has it, and the files of that record."""
    from harness.report.redraw import outcome_in

    report, pictures = record_and_images(with_history(_outcome_of(run), run.request))
    outcome = outcome_in(json.loads(report), pictures.__getitem__, where=REPORT)
    assert outcome is not None
    run.outcome, run.report, run.report_pictures = outcome, report, pictures
    return outcome


def _outcome_of(run: GateRun) -> Outcome:
    """Return the outcome of what the tests reported; an input that has changed meanwhile is an error."""
    from harness.calibration.panel import recorded_curves
    from harness.run.input_faults import ON_CLEAN_IMAGES, input_faults, other_order_of

    try:
        run.expect_same_code()
    except InputError as error:
        run.reported.errors.append(reason(error))
    session, request, default, curves, faults = run.prepare(), run.request, None, {}, None
    failed = {each.check.family for each in run.reported.verdicts.values() if each.status == "fail"}
    able = not (run.reported.interrupted or run.hung or request.stopped) and request.record is None
    able = able and bool(failed & ON_CLEAN_IMAGES)
    if able and (
        found := tried(run, "order of classes", lambda: other_order_of(session), lambda _: "")
    ):
        run.reported.errors.append(found)
    if session.checks.data.sample is not None:
        with suppress(InputError):
            default = read_checks(request.default_checks_path)
    outcome = outcome_of(
        run.reported,
        session,
        profile=request.profile,
        command=command_of(run.config),
        run=run_id_of(run.config),
        default=default,
    )
    if outcome.findings.overview is not None:
        with suppress(InputError):  # Figures then have no bands.
            curves = recorded_curves(session.checks, request.root)
    if able and session.roles["candidate"].provides.live:
        faults = tried(run, "input faults", lambda: input_faults(session), lambda _: None)
    reference_curves = {name: tuple(curves_of_name) for name, curves_of_name in curves.items()}
    thumbnails = _thumbnails(session, outcome) if run.pictured else {}
    return replace(
        outcome,
        run=replace(outcome.run, brief=not run.pictured),
        inputs=replace(outcome.inputs, recipe=_recipe_with_panel(outcome.inputs.recipe, request)),
        findings=replace(outcome.findings, reference_curves=reference_curves, input_faults=faults),
        images=ReportImages(run.book.shown(), thumbnails),
    )


def _recipe_with_panel(recipe: Mapping[str, Any], request: RunRequest) -> dict[str, Any]:
    """Return the recipe of the reference models with the hash of their panel, if it is there."""
    panel = recipe.get("panel")
    sha256 = hash_of_file(request.root / str(panel)) if panel else None
    return {**recipe, "panel_sha256": sha256} if sha256 else {**recipe}


def _thumbnails(session: StressSession, outcome: Outcome) -> dict[str, str]:
    from harness.report.pictures import source_of
    from harness.run.examples import thumbnails_of

    found = {}
    if outcome.findings.overview is not None:
        found = thumbnails_of(session.images, outcome.findings.overview)
    for family in filter(
        session.other_images.of_rows.__contains__, families_with_rows()
    ):  # They have an image for each row.
        images = session.other_images.of_rows[family]
        at = {check.id: position for position, check in enumerate(session.checks.family(family))}
        shown = [
            each.check.id for each in worst_first(outcome.results.verdicts) if each.check.id in at
        ][:ROWS_PICTURED]
        found |= {name: images.pixels[at[name]].permute(1, 2, 0).numpy() for name in shown}
    return {name: source_of(each) for name, each in found.items()}
