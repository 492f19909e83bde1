"""Shares, counts and tables in the words of a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.detection.judgement import families
from harness.base.errors import some_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.detection.judgement import Judged

_NAMED_FAMILIES = 3


def families_of(group: Sequence[Judged]) -> str:
    """Name the families whose rows failed on any of the mutants, the worst miss first; a dash for none."""
    return some_of(families(group), shown=_NAMED_FAMILIES) or "–"


def accuracies_of(group: Sequence[Judged]) -> str:
    """List the clean accuracies."""
    return ", ".join(percent(one.clean_accuracy) for one in group)


def percent(share: float) -> str:
    """Write a share in per cent, to two places."""
    return f"{share:.2%}"


def yes_or_no(yes: bool) -> str:  # noqa: FBT001  Its only argument.
    """Write a boolean, its no in bold."""
    return "yes" if yes else "**no**"


def many(n: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table, or a sentence where it has no rows."""
    if not rows:
        return "Nothing is judged yet."
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
