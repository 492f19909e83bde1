"""Mistakes as parts of the page.

By kind beside other models', by confusion, and against labels that may be wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from harness.checks.copied import of_pair
from harness.checks.roles import role_title
from harness.measures import Unit
from harness.report.page import Section, folded, in_lines, paragraphs, render, table
from harness.report.pictures import in_order, mistake, sheet
from harness.report.tables import LEGEND, kinds_rows
from harness.run.examples import PICTURED
from harness.run.shown import Face

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.run.outcome import Outcome
    from harness.run.overview import Overview


def failures(overview: Overview, thumbnails: Mapping[str, str]) -> Section | None:
    """Return the failures of every model by kind, and new and persistent ones, with pictures.

    `thumbnails` are addresses of images by their number.
    """
    (first, *others), known, changes = overview.models, overview.of_recipe, overview.changes
    if not first.failures:
        return None
    against = (
        f" New, fixed and shared are in comparison with the {role_title(changes.against)}."
        if changes
        else ""
    )
    corners = f"the corners {overview.augmentation.in_words()}"
    posed = f" Corners: the share of predictions at {corners}, of {overview.sample:,} images."
    posed = posed if all(kind.moved is not None for kind in first.failures) else ""
    lead = (
        f"Counts are of {overview.n:,} clean images.{against}{posed}{f' {LEGEND}' if known else ''}"
    )
    body = paragraphs(lead, kind="soft") + table(
        *kinds_rows(overview, reference=known), numbers=True
    )
    if changes and changes.new_failures:
        faces = []
        for wrong, right in ((each.candidate, each.other) for each in changes.new_failures):
            names, image = (wrong.true, wrong.predicted), thumbnails.get(str(wrong.index), "")
            beside = ", ".join(filter(None, (f"{changes.against} correct", right.sure)))
            faces.append(mistake(image, wrong.index, names, wrong.confidence, also=beside))
        order = in_order(each.candidate.confidence for each in changes.new_failures)
        made = f"{len(faces)} of {changes.by_kind[0].new}{order}"
        what = f"New errors, which the {role_title(changes.against)} does not make: {made}"
        body += folded(what, sheet("", faces), opened=bool(known))
    if (found := first.persistent) is not None and found.rows:
        shown = found.by_confidence()[:PICTURED]
        faces = [
            mistake(
                thumbnails.get(str(row.index), ""),
                row.index,
                (row.true, row.taken_for),
                row.confidence,
                about=f"wrong in {row.wrong_at} of {found.poses}",
            )
            for row in shown
        ]
        theirs = [
            f"{role_title(each.name)} {len(each.persistent.rows)}"
            for each in others
            if each.persistent
        ]
        said = f"{len(found.rows)} of {found.n:,} images are wrong in most of {found.poses} poses"
        among = f" ({', '.join(theirs)})" if theirs else ""
        order = f"{len(shown)} of them{in_order(row.confidence for row in shown)}"
        body += folded(f"Persistent errors: {said}{among}: {order}", sheet("", faces))
    return Section("failures", "Failures by kind", body)


def confusions(outcome: Outcome) -> Section | None:
    """Return the candidate's confusions on clean images, each with pictures.

    None without mistakes.
    """
    if (overview := outcome.findings.overview) is None or not overview.mistakes:
        return None
    faces: dict[tuple[str, str], list[Face]] = {}
    for wrong in overview.mistakes:
        panel, usual, names = wrong.reference, "", (wrong.true, wrong.predicted)
        if panel is not None:
            said = (
                f"{panel.predicted} {panel.confidence:.0%}, {panel.wrong} of {panel.models} wrong"
            )
            usual = f"reference models: {said}"
        image, known = (
            outcome.images.thumbnails.get(str(wrong.index), ""),
            outcome.known_text(f"image {wrong.index}"),
        )
        face = mistake(
            image, wrong.index, names, wrong.confidence, about=usual, also=usual, known=known
        )
        faces.setdefault(names, []).append(face)
    counts, at = (
        overview.models[0].confusion,
        {name: at for at, name in enumerate(overview.classes)},
    )
    images = {names: counts[at[names[0]]][at[names[1]]] for names in faces}
    errors, shown = (
        sum(sum(row) - row[at] for at, row in enumerate(counts)),
        sum(map(len, faces.values())),
    )
    few = "" if shown == errors else f" Pictures show {shown:,} of them."
    body = paragraphs(
        f"{errors:,} of {overview.n:,} clean images are predicted wrong.{few}", kind="soft"
    )
    for rank, names in enumerate(sorted(faces, key=lambda names: -images[names])):
        title = f"{' → '.join(names)}: {Unit.IMAGES.format(images[names])}"
        row = render(
            "copied", row=in_lines(of_pair(*names, (at[names[0]], at[names[1]]))), about=title
        )
        body += folded(title, row + sheet("", faces[names]), opened=not rank)
    return Section("confusions", "Confusions and their images", body)


def label_error_section(outcome: Outcome) -> Section | None:
    """Return the suspected label errors with pictures, and clean accuracy without them.

    If the reference models cannot name them, the section says why.
    """
    overview, title = outcome.findings.overview, "Suspected label errors"
    if overview is not None and overview.label_errors_missing:
        return Section("label-errors", title, paragraphs(overview.label_errors_missing))
    if overview is None or overview.label_errors is None or not overview.label_errors.rows:
        return None
    found, faces = overview.label_errors, []
    for row in found.rows[:PICTURED]:
        said, number = f"{row.answer} {row.probability:.0%}", f"image {row.index}"
        words = f"{number}: {row.label}?, reference models {said}"
        image = outcome.images.thumbnails.get(str(row.index), "")
        faces.append(Face(image, f"{row.label}?", said, number, words, wrong=False))
    lead = (
        f"Nearly all of {found.reference_models} reference models agree against the labels of "
        f"{len(found.rows)} of {found.n:,} images. Some labels are wrong, and some images could "
        "be either. Each check counts all of them."
    )
    pictures = folded(
        f"The {len(faces)} most suspect: label, and reference models", sheet("", faces)
    )
    return Section("label-errors", title, paragraphs(lead, _both_verdicts(outcome)) + pictures)


def _both_verdicts(outcome: Outcome) -> str:
    """Return the check on clean accuracy, and the same without suspected label errors, as text.

    The check with all images counts. The threshold of the rest lies as many standard deviations of
    prediction below the mean of the reference models as the check's own. Mean and deviation are
    those on the rest.
    """
    of_candidate = (
        one
        for one in outcome.results.verdicts
        if (one.check.family, one.check.role) == ("clean", "candidate")
    )
    clean = next(of_candidate, None)
    rest = (
        outcome.findings.overview.models[0].without_label_errors
        if outcome.findings.overview
        else None
    )
    if clean is None or clean.value is None or rest is None:
        return ""

    def held(value: float, threshold: float | None) -> str:
        said = Unit.SHARE.format(value)
        if threshold is None:
            return said
        return (
            f"{said}, which {'passes' if value >= threshold else 'fails'}: at least "
            f"{Unit.SHARE.format(threshold)}"
        )

    threshold, panel, mean, std = None, clean.check.panel, rest.reference_mean, rest.reference_std
    if panel and panel.k and panel.reference_models and mean is not None and std is not None:
        # Few reference models may be close by chance: the check's deviation is moderated, and so is
        # its multiplier.
        least = max(std, panel.std or 0, 1 / rest.n)
        threshold = mean - panel.k * least * math.sqrt(1 + 1 / panel.reference_models)
    same = "" if threshold is None else ", the threshold on the same images"
    said = (
        f"Clean accuracy with all images {held(clean.value, clean.threshold)}; without the "
        "suspected label errors "
    )
    return (
        f"{said}{held(rest.accuracy, threshold)}{same}. {rest.lost} of its errors are on "
        "suspected label errors."
    )
