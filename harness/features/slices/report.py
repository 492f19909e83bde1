"""The worst slice in the report of a run: its pictures, and its row for the checks file."""

from __future__ import annotations

from contextlib import suppress
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
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

FAMILY, _SHOWN = "slices", 24


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
    """Return what the report shows of the worst slice; nothing where slices do not apply."""
    if (panel := session.panel_predictions) is None or request.record is not None:
        return None
    row = next(
        (each for each in session.checks.family(FAMILY) if each.metric == WORST_SLICE.name), None
    )
    own, faces = session.of_family(FAMILY) if row is None else session.of_check(row), []
    with suppress(NotApplicableError):
        seen = find_slices(own.roles["candidate"].predict(own.images), panel)
        some, name, classes = seen.of == seen.worst, seen.names[seen.worst], own.images.classes
        for at in ordered(some, -seen.lost)[:_SHOWN].tolist():
            label, predicted = (
                int(each[at]) for each in (seen.predictions.labels, seen.predictions.predicted)
            )
            sure = (
                f"{each[at, label]:.0%}" for each in (seen.predictions.probabilities, seen.expected)
            )
            about = (
                f"label {', reference models '.join(sure)} · image {int(own.images.positions[at])}"
            )
            picture = source_of(own.images.pixels[at].permute(1, 2, 0).numpy())
            words, wrong = (
                f"{classes[label]} predicted as {classes[predicted]}, {about}",
                label != predicted,
            )
            faces.append(
                Face(picture, classes[label], classes[predicted], about, words, wrong=wrong)
            )
        away, n = worst_slice(seen).value, int(some.sum())
        of = f"{n:,} image{'' if n == 1 else 's'}"
        said = f"Of {len(seen.names)} slices, {name} is the worst: {away:.1f} standard deviations by chance, {of}."
        title, facts = (
            f"{len(faces)} of {of}, the largest loss first",
            (name, *seen.facts(seen.worst)),
        )
        return WorstSlice(said, "", title, tuple(faces), facts=facts)
    return None


def found_slices(outcome: Outcome) -> Section | None:
    """Return the worst slice, described, with pictures and the row that makes a check of it; None without one."""
    if (found := outcome.part(WorstSlice)) is None:
        return None
    name, *facts = found.facts
    known = [
        reference(verdict)
        for verdict in outcome.results.verdicts
        if verdict.metric == WORST_SLICE.name
    ]
    usual = (
        f"Worst slices of reference models: {known[0]}."
        if any(known)
        else "Some slice is always the worst."
    )
    row = as_row({"id": f"slice-{name}", "family": FAMILY, "metric": "slice_loss", "slice": name})
    body = paragraphs(found.sentence, *facts, f"{usual} Look for what the images share.")
    body += render("copied", row=in_lines(row), about=f"slice {name}") + sheet(
        found.title, found.faces
    )
    return Section("found-slices", "Found slices", body, before="label_error_section")
