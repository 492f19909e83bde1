"""Found slices in the report of a run: the worst ones, each with its row for the checks file, and pictures of one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError
from harness.features.slices.measures import find_slices
from harness.features.slices.rows import FAMILY, of_slice
from harness.measures.selection import ordered
from harness.report.page import Section, in_lines, paragraphs, render, table
from harness.report.pictures import sheet, source_of
from harness.run.outcome import Differences, Part
from harness.run.shown import Face

if TYPE_CHECKING:
    from harness.features.slices.measures import SlicedImages
    from harness.run.outcome import Outcome
    from harness.run.request import RunRequest
    from harness.run.session import StressSession

_SHOWN, _RANKED = 24, 5
"""Images of the worst slice that the page shows, and slices that it lists."""
CAUTION = (
    "Some slice is always the worst. Only a loss beyond that of reference models is a sign, and the pictures must tell "
    "what the images share."
)


def differences(session: StressSession, request: RunRequest) -> Part:
    """Return what the report shows of the slices that lose most; nothing where they do not apply."""
    panel = session.panel_predictions
    if request.record is not None or panel is None:
        return Part()
    session = session.of_family(FAMILY)
    with suppress(NotApplicableError):
        return Part(slices=_worst(find_slices(session.roles["candidate"].predict(session.images), panel)))
    return Part()


def _worst(seen: SlicedImages) -> Differences:
    away, labels, groups = seen.deviations, seen.predictions.labels, []
    ranked = [int(at) for at in np.argsort(-np.nan_to_num(away, nan=-np.inf), kind="stable")[:_RANKED]]
    for number in ranked:
        some = seen.of == number
        usual = seen.expected[some, labels[some]].sum()
        own = seen.probabilities[some, labels[some]].sum()
        counts = (some.sum(), (some & seen.predictions.correct).sum(), round(usual), round(own))
        groups.append((seen.slices.names[number], seen.described(number)[0], *map(int, counts)))
    worst = ranked[0]
    named, usual, own = seen.described(worst)
    facts = (f"labels: {named}", f"mean probability of reference models: {usual}", f"of the candidate: {own}")
    sentence = (
        f"Of {len(seen.slices.names)} slices, {seen.slices.names[worst]} loses most: {away[worst]:.1f} standard "
        f"deviations by chance, on {groups[0][2]:,} images."
    )
    shown = ordered(seen.of == worst, -seen.lost)[:_SHOWN]
    title = f"{len(shown)} of {groups[0][2]:,} images of the worst slice, the largest loss first"
    faces = tuple(_face(seen, int(at)) for at in shown)
    return Differences(sentence, CAUTION, title, faces, groups=tuple(groups), facts=facts)


def _face(seen: SlicedImages, at: int) -> Face:
    images, classes, label = seen.predictions.images, seen.predictions.classes, seen.predictions.labels[at]
    own, usual = seen.probabilities[at], seen.expected[at]
    predicted, number = int(own.argmax()), int(images.positions[at])
    picture = source_of(images.pixels[at].permute(1, 2, 0).numpy())
    sure = f"label {own[label]:.0%}, reference models {usual[label]:.0%}"
    words = f"image {number}: {classes[label]} predicted as {classes[predicted]}; {sure}"
    said = f"{classes[predicted]} {own[predicted]:.0%}"
    return Face(picture, classes[label], said, f"{sure} · image {number}", words, wrong=bool(predicted != label))


def found_slices(outcome: Outcome) -> Section | None:
    """Return the slices that lose most, with rows to copy; None for a run without."""
    if (found := outcome.slices) is None:
        return None
    of_label = "probability of the label in images, reference models"
    titles = ("slice", "labels", "images", "correct predictions", of_label, "of the candidate")
    body = paragraphs(found.sentence, *found.facts) + paragraphs(found.caution, kind="soft")
    body += sheet(found.title, found.faces)
    body += table(titles, found.groups, numbers=True)
    for name, *_ in found.groups:
        body += render("copied", row=in_lines(of_slice(name)), about=f"slice {name}")
    return Section("found-slices", "Found slices", body)
