"""The failures of a model as a part of the page: by kind beside the other models', the new ones, those that persist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.gates.roles import in_words
from harness.measures import Unit
from harness.report.page import Section, render, table
from harness.run.overview import Failing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from harness.run.overview import Changes, Overview

NUMBERS_SHOWN = 12
"""Images that a line of the table of persistent failures names."""


def failures(overview: Overview) -> Section | None:
    """Return how many failures of each kind every model has, and which are new and which persist, folded."""
    if not overview.models[0][Failing].failures:
        return None
    folded = [*(_new_failures(overview.changes) if overview.changes else []), *_persistent(overview)]
    kinds = table(*kinds_rows(overview), numbers=True)
    body = render("failures", how_to_read=_how_to_read(overview), kinds=kinds, folded=folded)
    return Section("failures", "Which mistakes it makes", body)


def kinds_rows(overview: Overview) -> tuple[list[str], list[list[object]]]:
    """Return titles and rows of the failures by kind, one value a cell: counts at rest, changes, shares moved."""
    models, changes = overview.models, overview.changes
    counts = list(zip(*(model[Failing].failures for model in models), strict=True))
    titles = ["kind", *(in_words(model.name) for model in models)]
    rows: list[list[object]] = [[kinds[0].kind, *(kind.count for kind in kinds)] for kinds in counts]
    if changes:
        titles += ["new", "fixed", "shared"]
        for row, change in zip(rows, changes.by_kind, strict=True):
            row += [change.new, change.fixed, change.shared]
    titles += [f"{in_words(model.name)}, moved" for model in models]
    for row, kinds in zip(rows, counts, strict=True):
        row += [Unit.SHARE.format(kind.moved) for kind in kinds]
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
        changes = f" New, fixed and shared are in comparison with the {in_words(overview.changes.against)}."
    return (
        f"Images, of {overview.n:,} as they are.{changes} Moved: the share of answers at the corners ±10°, ±2 px, of "
        f"{overview.sample:,} images."
    )


def _new_failures(changes: Changes) -> list[tuple[str, Markup]]:
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
    shown, new, against = len(rows), changes.by_kind[0].new, in_words(changes.against)
    count = f"{shown} of {new}" if shown < new else f"all {new}"
    title = f"New mistakes, which the {against} does not make: {count}, the most confident first"
    return [(title, table(("image", "true", "taken for", "confidence", against, "confidence"), rows))]


def _persistent(overview: Overview) -> list[tuple[str, Markup]]:
    found, *rest = ((in_words(model.name), model[Failing].persistent) for model in overview.models)
    persistent = found[1]
    if persistent is None or not persistent.rows:
        return []
    others = ", ".join(f"{name} {len(theirs.rows)}" for name, theirs in rest if theirs is not None)
    title = (
        f"Mistakes that persist, at rest and moved: {len(persistent.rows)} of {persistent.n:,} images are wrong in "
        f"most of {persistent.poses} poses{f' ({others})' if others else ''}"
    )
    rows = confusions_rows(persistent.by_confusion())
    return [(title, table(("true → taken for", "images", "their numbers"), rows))]
