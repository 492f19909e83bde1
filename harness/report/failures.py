"""The failures of a model as a part of the page: by kind beside the other models', the new ones, those that persist."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from harness.report.tables import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.run.overview import Changes, Overview

NUMBERS_SHOWN = 12
"""Images that a line of the table of persistent failures names."""


def failures_section(overview: Overview) -> list[str]:
    """Return how many failures of each kind every model has, and which are new and which persist, folded."""
    first = overview.models[0]
    if not first.failures:
        return []
    return [
        '<h2 id="report-failures">Which mistakes it makes</h2>',
        f'<p class="soft">{escape(_how_to_read(overview))}</p>',
        table(*kinds_rows(overview), numbers=True),
        *(_new_failures(overview.changes) if overview.changes else []),
        *_persistent(overview),
    ]


def kinds_rows(overview: Overview) -> tuple[list[str], list[list[object]]]:
    """Return titles and rows of the failures by kind, one value a cell: counts at rest, changes, shares moved."""
    models, changes = overview.models, overview.changes
    titles = ["kind", *(model.name for model in models)]
    rows: list[list[object]] = [
        [kind.kind, *(model.failures[at].count for model in models)] for at, kind in enumerate(models[0].failures)
    ]
    if changes:
        titles += ["new", "fixed", "shared"]
        for row, change in zip(rows, changes.by_kind, strict=True):
            row += [change.new, change.fixed, change.shared]
    titles += [f"{model.name}, moved" for model in models]
    for at, row in enumerate(rows):
        row += [f"{100 * model.failures[at].moved:.1f}%" for model in models]
    return titles, rows


def confusions_rows(groups: Sequence[tuple[str, str, tuple[int, ...]]]) -> list[list[object]]:
    """Return a row for each confusion of `PersistentFailures.by_confusion`: what for what, how often, which images."""
    return [
        [
            f"{true} → {taken_for}",
            len(numbers),
            ", ".join(map(str, numbers[:NUMBERS_SHOWN])) + (" …" if len(numbers) > NUMBERS_SHOWN else ""),
        ]
        for true, taken_for, numbers in groups
    ]


def _how_to_read(overview: Overview) -> str:
    changes = ""
    if overview.changes:
        changes = f" New, fixed and shared are in comparison with the {overview.changes.against}."
    return (
        f"Images, of {overview.n:,} as they are.{changes} Moved: the share of answers at the corners ±10°, ±2 px, of "
        f"{overview.sample:,} images."
    )


def _new_failures(changes: Changes) -> list[str]:
    if not changes.new_failures:
        return []
    rows = [
        (
            each.after.index,
            each.after.true,
            each.after.predicted,
            f"{each.after.confidence:.0%}",
            each.before.predicted,
            f"{each.before.confidence:.0%}",
        )
        for each in changes.new_failures
    ]
    shown, new = len(rows), changes.by_kind[0].new
    count = f"{shown} of {new}" if shown < new else f"all {new}"
    titles = ("image", "true", "taken for", "sure", changes.against, "sure")
    return [
        f"<details><summary>New mistakes, which the {escape(changes.against)} does not make: {count}, the most "
        f"confident first</summary>{table(titles, rows)}</details>"
    ]


def _persistent(overview: Overview) -> list[str]:
    found = overview.models[0].persistent
    if found is None or not found.rows:
        return []
    others = [
        f"{model.name} {len(model.persistent.rows)}" for model in overview.models[1:] if model.persistent is not None
    ]
    beside = f" ({', '.join(others)})" if others else ""
    return [
        f"<details><summary>Mistakes that persist, at rest and moved: {len(found.rows)} of {found.n:,} images are "
        f"wrong in most of {found.poses} poses{escape(beside)}</summary>"
        f"{table(('true → taken for', 'images', 'their numbers'), confusions_rows(found.by_confusion()))}</details>"
    ]
