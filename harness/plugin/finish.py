"""The outcome of a gate run, by what its tests, its self-checks and the comparison of its models reported."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.base.errors import InputError, reason
from harness.base.features import families_with_rows
from harness.base.files import hash_of_file
from harness.checks import read_checks
from harness.plugin.looking_back import tried
from harness.plugin.refusing import command_of, run_id_of
from harness.run.earlier_runs import with_history
from harness.run.outcome import ROWS_PICTURED, worst_first
from harness.run.reported import outcome_of
from harness.run.status import REPORT

if TYPE_CHECKING:
    from harness.plugin.run import GateRun
    from harness.run.outcome import Outcome
    from harness.run.session import StressSession


def finish(run: GateRun) -> Outcome:
    """Set the outcome of a run, as its record has it, and the files of that record."""
    from harness.report.redraw import outcome_in

    report, pictures = with_history(_outcome_of(run), run.request).as_files()
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
    if outcome.overview is not None:
        with suppress(InputError):  # Figures then have no bands.
            curves = recorded_curves(session.checks, request.root)
    if able and session.roles["candidate"].provides.live:
        faults = tried(run, "input faults", lambda: input_faults(session), lambda _: None)
    panel = session.checks.recipe.get("panel")
    sha256 = hash_of_file(request.root / str(panel)) if panel else None
    return replace(
        outcome,
        recipe=outcome.recipe | ({"panel_sha256": sha256} if sha256 else {}),
        reference_curves={name: tuple(each) for name, each in curves.items()},
        input_faults=faults,
        pictures=run.book.shown(),
        thumbnails=_thumbnails(session, outcome) if run.pictured else {},
        brief=not run.pictured,
    )


def _thumbnails(session: StressSession, outcome: Outcome) -> dict[str, str]:
    from harness.report.pictures import source_of
    from harness.run.examples import thumbnails_of

    found = {} if outcome.overview is None else thumbnails_of(session.images, outcome.overview)
    for family in filter(
        session.of_rows.__contains__, families_with_rows()
    ):  # They have an image for each row.
        images = session.of_rows[family]
        at = {check.id: position for position, check in enumerate(session.checks.family(family))}
        shown = [each.check.id for each in worst_first(outcome.verdicts) if each.check.id in at][
            :ROWS_PICTURED
        ]
        found |= {name: images.pixels[at[name]].permute(1, 2, 0).numpy() for name in shown}
    return {name: source_of(each) for name, each in found.items()}
