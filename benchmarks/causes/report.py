"""Causes named by the report as Markdown: shares, a table by kind, and the mutants with another group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.causes.expected import EXPECTED
from benchmarks.causes.measure import Letters, Named
from harness.report.causes import UNCLEAR


def tables(found: Sequence[Named]) -> str:
    """Return the tables of the page."""
    halves = {
        "tests the rules": [each for each in found if not each.developed],
        "the rules come from it": [each for each in found if each.developed],
    }
    lines = ["| kinds | detected mutants | right group | another group | unclear |", "| --- | --- | --- | --- | --- |"]
    lines += [_shares(title, half) for title, half in halves.items()]
    lines += ["", "| kind | half | right | named |", "| --- | --- | --- | --- |"]
    for kind in EXPECTED:
        of_kind = [each for each in found if each.kind == kind]
        counts = Counter(each.group for each in of_kind)
        named = ", ".join(f"{group} {count}" for group, count in counts.most_common()) or "none is detected"
        half = "rules" if of_kind and of_kind[0].developed else "test"
        lines.append(f"| {kind} | {half} | {' or '.join(sorted(EXPECTED[kind]))} | {named} |")
    wrong = [f"- `{each.id}`: {each.group}. {each.evidence}" for each in found if not each.right]
    return "\n".join([*lines, "", "Mutants with another group than the right one:", "", *wrong])


def letters_table(found: Sequence[Letters]) -> str:
    """Return the table of the rendered letters, a line for each case."""
    halves = {half: [each for each in found if each.half == half] for half in ("rules", "test")}
    lines = ["| training | right | named, first alphabet | named, second alphabet |", "| --- | --- | --- | --- |"]
    for first in halves["rules"]:
        named = [next(each.group for each in half if each.name == first.name) for half in halves.values()]
        cells = (first.name, " or ".join(first.right), *(group or "the gate passes" for group in named))
        lines.append(f"| {' | '.join(cells)} |")
    said = []
    for title, half in zip(("first", "second"), halves.values(), strict=True):
        failing = [each for each in half if each.group is not None]
        right, unclear = (sum(which(each) for each in failing) for which in (_is_right, _is_unclear))
        share, wrong = f"{right} ({right / len(failing):.1%})", len(failing) - right - unclear
        said.append(f"Of the {title} alphabet, {len(failing)} of {len(half)} networks fail.")
        said.append(f"{share} have the right cause, {wrong} another, and {unclear} none.")
    return "\n".join([*lines, "", " ".join(said)])


def _is_right(each: Letters) -> bool:
    return each.group in each.right


def _is_unclear(each: Letters) -> bool:
    return each.group == UNCLEAR


def _shares(title: str, found: Sequence[Named]) -> str:
    right, unclear = (sum(flags) for flags in zip(*((each.right, each.unclear) for each in found), strict=True))
    counts = (right, len(found) - right - unclear, unclear)
    return f"| {title} | {len(found)} | {' | '.join(f'{count} ({count / len(found):.1%})' for count in counts)} |"
