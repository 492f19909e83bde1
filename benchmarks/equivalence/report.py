"""The page of the benchmark: what is wanted beside what is reached, and a row for each artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.equivalence.artifacts import HELD_OUT, LOSSLESS, SHOWN
from benchmarks.equivalence.judgement import NOT_APPLICABLE, REFUSED
from benchmarks.equivalence.networks import SOURCES
from benchmarks.pages import write_between

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.equivalence.judgement import Judged

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
DIFFERENT, INDIFFERENT, MOST = 0.015, (0.0075, 0.013), 0.05
"""Changes that make an artifact different, the zone where any outcome is right, and how many may be inconclusive."""
LEAST_ARTIFACTS, LEAST_LOSSLESS = 30, 50


def misses(found: Sequence[Judged]) -> list[str]:
    """Return what is wanted and not reached, each in a line."""
    return [f"{wanted}: {reached}" for wanted, reached, good in _wanted(found) if not good]


def _wanted(found: Sequence[Judged]) -> list[tuple[str, str, bool]]:
    """Return each goal, what is reached, and whether that is enough."""
    names = {source.name for source in SOURCES}
    artifacts = [each for each in found if each.network in names and each.outcome != NOT_APPLICABLE]
    lossless = [each for each in found if each.artifact in LOSSLESS]
    counts = [sum(each.network == name for each in artifacts) for name in sorted(names)]
    changed = [each for each in artifacts if each.share >= DIFFERENT]
    missed = [each for each in changed if each.outcome != "different"]
    alarms = [each for each in lossless if each.outcome == "different"]
    outside = [each for each in artifacts if not INDIFFERENT[0] <= each.share <= INDIFFERENT[1]]
    unsure = [each for each in outside if each.outcome in {"inconclusive", REFUSED}]
    return [
        (
            f"at least {LEAST_ARTIFACTS} artifacts of each of 3 networks",
            ", ".join(map(str, counts)),
            len(counts) == 3 and min(counts) >= LEAST_ARTIFACTS,
        ),
        (
            f"each artifact that changes {DIFFERENT:.1%} or more is different",
            f"{len(changed) - len(missed)} of {len(changed)}",
            not missed,
        ),
        (
            f"none of at least {LEAST_LOSSLESS} lossless conversions is different",
            f"{len(alarms)} of {len(lossless)}",
            not alarms and len(lossless) >= LEAST_LOSSLESS,
        ),
        (
            f"at most {MOST:.1%} of the artifacts outside {INDIFFERENT[0]:.2%} to {INDIFFERENT[1]:.1%} cannot be told",
            f"{len(unsure)} of {len(outside)}" + (f" ({len(unsure) / len(outside):.1%})" if outside else ""),
            len(unsure) <= MOST * len(outside),
        ),
    ]


def write_page(page: Path, found: Sequence[Judged]) -> None:
    """Write the tables into the page."""
    goals = [f"| {goal} | {reached} | {'yes' if good else '**no**'} |" for goal, reached, good in _wanted(found)]
    parts = ["\n".join(["| wanted | reached | enough |", "| --- | --- | --- |", *goals])]
    lacking = [
        f"{len(kinds)} {'kind' if len(kinds) == 1 else 'kinds'} of artifacts of {source.title}"
        for source in SOURCES
        if (kinds := {*SHOWN, *HELD_OUT} - {each.artifact for each in found if each.network == source.name})
    ]
    if lacking:
        parts.append(f"Not measured yet: {'; '.join(lacking)}.")
    for source in SOURCES:
        if own := [each for each in found if each.network == source.name]:
            rows = [_row(each) for each in sorted(own, key=lambda each: (each.held_out, each.changed))]
            head = ["| artifact | changed | bounds | lost, gained | worst class | outcome |", "| --- " * 6 + "|"]
            parts.append("\n".join([f"### {source.title}", "", *head, *rows]))
    write_between(page, BEGIN, END, "\n\n".join(parts))


def _row(each: Judged) -> str:
    name = f"{each.artifact} †" if each.held_out else each.artifact
    if each.outcome in {NOT_APPLICABLE, REFUSED}:
        return f"| {name} | – | – | – | – | {each.outcome} |"
    outcome = "cannot tell" if each.outcome == "inconclusive" else each.outcome
    return (
        f"| {name} | {each.changed:,} | {each.lower:.2%} to {each.upper:.2%} | {each.lost:,}, {each.gained:,} | "
        f"{each.worst_class:.1%} | {outcome}{', classes in another order' if each.note else ''} |"
    )
