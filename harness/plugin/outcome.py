"""The outcome of a gate run, from what its tests, self-checks and overview reported."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.base.errors import InputError, reason
from harness.base.features import families_with_rows
from harness.base.files import hash_of_file
from harness.checks import read_checks
from harness.plugin.after_tests import run_step
from harness.plugin.refusals import command_of, run_id_of
from harness.run.conclusion import outcome_of
from harness.run.earlier_runs import with_history
from harness.run.margins import worst_first
from harness.run.outcome import ReportImages
from harness.run.shown import ROWS_PICTURED
from harness.run.status import REPORT
from harness.run.stress_json import record_and_images

if TYPE_CHECKING:
    import numpy as np

    from harness.checks import ChecksFile
    from harness.measures.metric import Curve
    from harness.plugin.run import GateRun
    from harness.run.findings import InputFaults
    from harness.run.outcome import Outcome
    from harness.run.session import StressSession


def set_outcome(run: GateRun) -> Outcome:
    """Set the outcome of a run, and the files of its record; returns the outcome."""
    from harness.report.redraw import outcome_in

    report, pictures = record_and_images(with_history(_outcome_of(run), run.request))
    # The terminal shows the outcome in the record, as the reports of the outer process do.
    outcome = outcome_in(json.loads(report), pictures.__getitem__, where=REPORT)
    assert outcome is not None, "only the record of a refusal has no outcome"
    run.output.outcome = outcome
    run.output.report = report
    run.output.pictures = pictures
    return outcome


def _outcome_of(run: GateRun) -> Outcome:
    """Return the outcome of what the tests reported; changed code is one of its errors."""
    try:
        run.expect_same_code()
    except InputError as error:
        run.tally.errors.append(reason(error))

    looks_for_faults = _looks_for_faults_of_inputs(run)
    if looks_for_faults:
        _report_other_order_of_classes(run)

    session = run.prepare()
    outcome = outcome_of(
        run.tally,
        session,
        profile=run.request.profile,
        command=command_of(run.config),
        run=run_id_of(run.config),
        default=_default_checks(run),
    )
    findings = outcome.findings
    if findings.overview is not None:
        findings = replace(findings, reference_curves=_reference_curves(run))
    if looks_for_faults:
        findings = replace(findings, input_faults=_input_faults(run))
    thumbnails = _thumbnails(session, outcome) if run.pictured else {}
    return replace(
        outcome,
        run=replace(outcome.run, brief=not run.pictured),
        inputs=replace(outcome.inputs, recipe=_recipe(run)),
        findings=findings,
        images=ReportImages(run.pictures.book.chosen(), thumbnails),
    )


def _looks_for_faults_of_inputs(run: GateRun) -> bool:
    """Return whether a failure on clean images may have a cause in the inputs, and may be tried."""
    from harness.run.input_faults import ON_CLEAN_IMAGES

    if run.tally.interrupted or run.hung:
        return False
    if run.request.stopped or run.request.record is not None:
        return False
    verdicts = run.tally.verdicts.values()
    failing_families = {verdict.check.family for verdict in verdicts if verdict.status == "fail"}
    return not failing_families.isdisjoint(ON_CLEAN_IMAGES)


def _report_other_order_of_classes(run: GateRun) -> None:
    """Report an error if the candidate has its classes in another order than the data."""
    from harness.run.input_faults import other_order_of

    error = run_step(
        run, "order of classes", lambda: other_order_of(run.prepare()), on_error=lambda _: ""
    )
    if error:
        run.tally.errors.append(error)


def _input_faults(run: GateRun) -> InputFaults | None:
    """Return other pixels with which the candidate is correct, if it can be asked for them."""
    from harness.run.input_faults import input_faults

    session = run.prepare()
    if not session.roles["candidate"].provides.live:
        return None
    return run_step(run, "input faults", lambda: input_faults(session), on_error=lambda _: None)


def _default_checks(run: GateRun) -> ChecksFile | None:
    """Return the checks of the default profile, where those of the run are made for a sample."""
    if run.prepare().checks.data.sample is None:
        return None
    with suppress(InputError):
        return read_checks(run.request.default_checks_path)
    return None


def _recipe(run: GateRun) -> dict[str, object]:
    """Return the recipe of the reference models, with the SHA-256 of their panel."""
    recipe = run.prepare().checks.recipe
    panel = recipe.get("panel")
    sha256 = hash_of_file(run.request.root / str(panel)) if panel else None
    return recipe | {"panel_sha256": sha256} if sha256 else recipe


def _reference_curves(run: GateRun) -> dict[str, tuple[Curve, ...]]:
    from harness.calibration.panel import recorded_curves

    with suppress(InputError):  # Figures then have no bands.
        return recorded_curves(run.prepare().checks, run.request.root)
    return {}


def _thumbnails(session: StressSession, outcome: Outcome) -> dict[str, str]:
    """Return the images that the overview names, and those of the worst rows with their own."""
    from harness.report.pictures import source_of
    from harness.run.examples import thumbnails_of

    images = {}
    overview = outcome.findings.overview
    if overview is not None:
        images = thumbnails_of(session.images, overview)
    for family in families_with_rows():
        if family in session.other_images.of_rows:
            images |= _worst_row_images(session, outcome, family)
    return {name: source_of(image) for name, image in images.items()}


def _worst_row_images(
    session: StressSession, outcome: Outcome, family: str
) -> dict[str, np.ndarray]:
    """Return the images of the worst rows of a family that has an image for each row."""
    pixels = session.other_images.of_rows[family].pixels
    rows = {check.id: row for row, check in enumerate(session.checks.family(family))}
    worst = [verdict.check.id for verdict in worst_first(outcome.results.verdicts)]
    pictured = [name for name in worst if name in rows][:ROWS_PICTURED]
    return {name: pixels[rows[name]].permute(1, 2, 0).numpy() for name in pictured}
