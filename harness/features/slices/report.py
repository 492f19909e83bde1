"""The worst slice in the report of a run: its pictures, and its row for the checks file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import NotApplicableError
from harness.base.records import record
from harness.checks.copied import as_row
from harness.features.slices.measures import WORST_SLICE, find_slices, worst_slice
from harness.measures.selection import ordered
from harness.report.page import Section, in_lines, paragraphs, render
from harness.report.pictures import sheet, source_of
from harness.report.wording import reference
from harness.run.feature_records import PicturedRecord
from harness.run.shown import Face

if TYPE_CHECKING:
    from harness.features.slices.measures import Slices
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

FAMILY = "slices"
_SHOWN = 24
"""Images that the report shows."""


@record
class WorstSlice(PicturedRecord):
    """The slice on which the candidate loses most, as the record of a run has it.

    `faces` are its images, the largest loss first. `facts` are the name of the slice, and what its
    images share. `caution`, `pairs` and `groups` are empty.
    """

    @property
    def summary_lines(self) -> tuple[str, ...]:
        """Return nothing: some slice is always the worst."""
        return ()


def differences(session: StressSession, request: RunRequest) -> WorstSlice | None:
    """Return the worst slice as the report shows it; None where slices do not apply."""
    panel = session.panel_predictions
    if panel is None or request.record is not None:
        return None
    measured = _session_of_check(session)
    try:
        predictions = measured.roles["candidate"].predict(measured.images)
        slices = find_slices(predictions, panel)
        loss = worst_slice(slices).value
    except NotApplicableError:
        return None

    in_slice = slices.of == slices.worst
    name = slices.names[slices.worst]
    faces = [_face_of(slices, int(row)) for row in ordered(in_slice, -slices.lost)[:_SHOWN]]
    count = int(in_slice.sum())
    images = "1 image" if count == 1 else f"{count:,} images"
    sentence = (
        f"Of {len(slices.names)} slices, {name} is the worst: {loss:.1f} standard deviations "
        f"by chance, {images}."
    )
    return WorstSlice(
        sentence,
        caution="",
        title=f"{len(faces)} of {images}, the largest loss first",
        faces=tuple(faces),
        facts=(name, *slices.facts(slices.worst)),
    )


def _session_of_check(session: StressSession) -> StressSession:
    """Return the session with the images that the check of the worst slice measures."""
    for check in session.checks.family(FAMILY):
        if check.metric == WORST_SLICE.name:
            return session.of_check(check)
    return session.of_family(FAMILY)


def _face_of(slices: Slices, row: int) -> Face:
    """Return an image of a slice with its prediction, and the probabilities of its label."""
    predictions, images = slices.predictions, slices.predictions.images
    label = int(predictions.labels[row])
    predicted = int(predictions.predicted[row])
    about = (
        f"label {predictions.probabilities[row, label]:.0%}, "
        f"reference models {slices.expected[row, label]:.0%} · "
        f"image {int(images.positions[row])}"
    )
    return Face(
        source_of(images.pixels[row].permute(1, 2, 0).numpy()),
        predictions.classes[label],
        predictions.classes[predicted],
        about,
        f"{predictions.classes[label]} predicted as {predictions.classes[predicted]}, {about}",
        wrong=label != predicted,
    )


def found_slices(outcome: Outcome) -> Section | None:
    """Return the section on the worst slice, with pictures and the row that makes a check of it."""
    worst = outcome.part(WorstSlice)
    if worst is None:
        return None
    name, *facts = worst.facts
    advice = f"{_usual_values(outcome)} Look for what the images share."
    row = as_row({"id": f"slice-{name}", "family": FAMILY, "metric": "slice_loss", "slice": name})
    body = paragraphs(worst.sentence, *facts, advice)
    body += render("copied", row=in_lines(row), about=f"slice {name}")
    body += sheet(worst.title, worst.faces)
    return Section("found-slices", "Found slices", body, before="label_error_section")


def _usual_values(outcome: Outcome) -> str:
    """Return a sentence on the worst slices of the reference models."""
    verdicts = [
        verdict for verdict in outcome.results.verdicts if verdict.metric == WORST_SLICE.name
    ]
    usual = reference(verdicts[0]) if verdicts else ""
    if usual:
        return f"Worst slices of reference models: {usual}."
    return "Some slice is always the worst."
