"""The failures of a model as a part of the page: by kind beside the other models', the new ones, those that persist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.checks.roles import role_title
from harness.report.gallery import in_order, mistake, sheet
from harness.report.page import Section, folded, paragraphs, table
from harness.report.tables import LEGEND, kinds_rows
from harness.run.examples import PICTURED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from harness.run.overview import Changes, Overview

    Thumbnails = Mapping[int | str, np.ndarray]

NUMBERS_SHOWN = 12
"""Images that a line of the table of persistent failures names."""
_COMMONEST = 5
"""Confusions that are counted above the images that stay wrong."""


def failures(overview: Overview, thumbnails: Thumbnails) -> Section | None:
    """Return the failures of every model by kind, and those that are new, fixed and persistent, with pictures.

    `thumbnails` are images (H, W, C) uint8 by their number.
    """
    if not overview.models[0].failures:
        return None
    new, fixed = (_changed(overview.changes, thumbnails, new=each) for each in (True, False))
    parts = [*new, *_persistent(overview, thumbnails), *fixed]
    titles, rows = kinds_rows(overview, reference=overview.of_recipe)
    opened = bool(new and overview.of_recipe)
    details = [folded(title, body, opened=opened and not at) for at, (title, body) in enumerate(parts)]
    kinds = table(titles, rows, numbers=True)
    body = Markup().join([paragraphs(_how_to_read(overview), kind="soft"), kinds, *details])
    return Section("failures", "Failures by kind", body)


def confusions_rows(groups: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[list[object]]:
    """Return a row for each confusion of `PersistentFailures.by_confusion`: classes, count and images."""
    rows: list[list[object]] = []
    for true, taken_for, numbers in groups:
        more = " …" if len(numbers) > NUMBERS_SHOWN else ""
        rows.append([f"{true} → {taken_for}", len(numbers), ", ".join(map(str, numbers[:NUMBERS_SHOWN])) + more])
    return rows


def _how_to_read(overview: Overview) -> str:
    changes = ""
    if overview.changes:
        changes = f" New, fixed and shared are in comparison with the {role_title(overview.changes.against)}."
    legend = f" {LEGEND}" if overview.of_recipe else ""
    moved = f" Corners: the share of predictions at the corners ±10°, ±2 px, of {overview.sample:,} images."
    shares = all(kind.moved is not None for kind in overview.models[0].failures)
    return f"Counts are of {overview.n:,} clean images.{changes}{moved if shares else ''}{legend}"


def _changed(changes: Changes | None, thumbnails: Thumbnails, *, new: bool) -> list[tuple[str, Markup]]:
    """Return the errors that only one of the two models makes, the most confident first."""
    if changes is None or not (shown := changes.new_failures if new else changes.fixed_failures):
        return []
    faces = []
    for each in shown:
        wrong, right = (each.candidate, each.other) if new else (each.other, each.candidate)
        beside = ", ".join(filter(None, (f"{changes.against} correct" if new else "correct now", right.sure)))
        names = wrong.true, wrong.predicted
        pixels = thumbnails.get(wrong.index)
        faces.append(mistake(pixels, wrong.index, names, wrong.confidence, also=f"; {beside}"))
    total = changes.by_kind[0].new if new else changes.by_kind[0].fixed
    count = f"{len(shown)} of {total}" if len(shown) < total else f"all {total}"
    name = role_title(changes.against)
    what = f"New errors, which the {name} does not make" if new else f"Fixed errors, which the {name} makes"
    order = in_order((each.candidate if new else each.other).confidence for each in shown)
    return [(f"{what}: {count}{order}", sheet("", faces))]


def _persistent(overview: Overview, thumbnails: Thumbnails) -> list[tuple[str, Markup]]:
    found, *rest = ((role_title(model.name), model.persistent) for model in overview.models)
    persistent = found[1]
    if persistent is None or not persistent.rows:
        return []
    others = ", ".join(f"{name} {len(theirs.rows)}" for name, theirs in rest if theirs is not None)
    title = (
        f"Persistent errors: {len(persistent.rows)} of {persistent.n:,} images are wrong in most of "
        f"{persistent.poses} poses{f' ({others})' if others else ''}"
    )
    shown, faces = persistent.by_confidence()[:PICTURED], []
    for row in shown:
        about, names = f"wrong in {row.wrong_at} of {persistent.poses}", (row.true, row.taken_for)
        faces.append(mistake(thumbnails.get(row.index), row.index, names, row.confidence, about=about))
    often = [f"{true} → {taken} {len(numbers)}" for true, taken, numbers in persistent.by_confusion()[:_COMMONEST]]
    count = f"{len(shown)} of {len(persistent.rows)}" if len(shown) < len(persistent.rows) else "All"
    order = in_order(row.confidence for row in shown)
    lead = f"Most often {', '.join(often)}. {count}{order and f'{order}, by the mean over the poses'}."
    return [(title, paragraphs(lead) + sheet("", faces))]
