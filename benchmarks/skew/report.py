"""The page of the benchmark: goals beside what is reached, and a row for each planted fault."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.pages import write_between
from benchmarks.smoke import few

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
BEGIN_PAIRS, END_PAIRS = "<!-- pairs -->", "<!-- end of pairs -->"
BEGIN_PHOTOGRAPHS, END_PHOTOGRAPHS = "<!-- photographs -->", "<!-- end of photographs -->"
LEAST_CHANGED, LEAST_FAULTS, RIGHT, LEAST_IDENTICAL = few(30, 5), 40, 0.9, 50
"""Changed predictions of a fault that counts, faults, share of right names, and identical pipelines."""


def is_right(row: Mapping[str, Any]) -> bool:
    """Return whether the fault's own cause is named, alone."""
    return bool(row["named"]) and row["causes"] == [row["cause"]]


def outcome_of_pair(row: Mapping[str, Any]) -> str:
    """Return how much of the pair is named, as text: the pair itself, one of its two causes, none, or another cause."""
    if not row["named"]:
        return "none of them"
    if is_right(row):
        return "the pair"
    if row["cause"] in row["causes"]:
        return "the pair, or another cause"
    return "one of the two" if all(set(causes) < set(row["cause"]) for causes in row["causes"]) else "another cause"


def goals(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str, bool]]:
    """Return each goal, what is reached, and whether that is enough."""
    counted = [row for row in results["faults"] if row["changed"] >= LEAST_CHANGED]
    unlisted = [row for row in counted if not row["listed"]]
    right = sum(map(is_right, counted))
    wrong = [row for row in counted if row["named"] and not is_right(row) and row["cause"] not in row["causes"]]
    identical = results["identical"]
    blamed = [row for row in identical if row["outcome"] == "different"]
    return [
        (
            f"at least {LEAST_FAULTS} faults that change {LEAST_CHANGED} predictions",
            f"{len(counted)}",
            len(counted) >= LEAST_FAULTS,
        ),
        ("half of them are not in the catalog", f"{len(unlisted)}", 2 * len(unlisted) >= len(counted)),
        (
            f"the right cause is named for {RIGHT:.0%}",
            f"{right} of {len(counted)} ({right / max(len(counted), 1):.1%})",
            right >= RIGHT * len(counted),
        ),
        ("no wrong cause is named", f"{len(wrong)}", not wrong),
        (
            f"none of at least {LEAST_IDENTICAL} identical pipelines is called different",
            f"{len(blamed)} of {len(identical)}",
            not blamed and len(identical) >= LEAST_IDENTICAL,
        ),
    ]


def write_page(page: Path, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write goals, faults and pairs into the page."""
    write_pairs(page, results["pairs"])
    write_between(page, BEGIN, END, "\n".join([*_goals(goals(results)), "", *_faults(results["faults"])]))


def write_pairs(page: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the pairs of faults into the page, with how many are named, in part or not at all."""
    counted = [row for row in rows if row["changed"] >= LEAST_CHANGED]
    outcomes = Counter(map(outcome_of_pair, counted))
    lines = [f"{len(counted)} of {len(rows)} pairs count.", "", "| named | pairs |", "| --- | --- |"]
    lines += [f"| {words} | {count} |" for words, count in outcomes.most_common()]
    body = "\n".join([*lines, "", *_faults(rows)]) if rows else "No pair has a result yet."
    write_between(page, BEGIN_PAIRS, END_PAIRS, body)


def write_photographs(
    page: Path, results: Mapping[str, Sequence[Mapping[str, Any]]], *, images: int, paper: Mapping[str, float]
) -> None:
    """Write the faults of so many photographs into the page, and each stage beside the `paper`'s loss of accuracy."""
    counted = [row for row in results["faults"] if row["changed"] >= LEAST_CHANGED]
    right = sum(map(is_right, counted))
    lines = [
        f"{right} of {len(counted)} faults are named ({right / max(len(counted), 1):.1%}), from {images} photographs.",
        "",
        *_faults(results["faults"]),
        "",
        "| stage | skews | predictions changed, mean | probability moved, mean | accuracy lost in the paper |",
        "| --- | --- | --- | --- | --- |",
    ]
    for stage in dict.fromkeys(row["stage"] for row in results["stages"]):
        rows = [row for row in results["stages"] if row["stage"] == stage]
        changed = sum(row["changed"] / row["n"] for row in rows) / len(rows)
        moved = sum(row["moved"] for row in rows) / len(rows)
        lost = f"{paper[stage]:.2f} points" if stage in paper else "–"
        lines.append(f"| {stage} | {len(rows)} | {changed:.1%} | {moved:.4f} | {lost} |")
    write_between(page, BEGIN_PHOTOGRAPHS, END_PHOTOGRAPHS, "\n".join(lines))


def _goals(rows: Sequence[tuple[str, str, bool]]) -> list[str]:
    lines = ["| wanted | reached | enough |", "| --- | --- | --- |"]
    return lines + [f"| {wanted} | {reached} | {'yes' if good else '**no**'} |" for wanted, reached, good in rows]


def _faults(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| fault | in the catalog | changed | named | explained | right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row["changed"] < LEAST_CHANGED:
            continue
        named = " or ".join(" and ".join(causes) for causes in row["causes"]) if row["named"] else "none of them"
        listed, right = ("yes" if yes else "no" for yes in (row["listed"], is_right(row)))
        lines.append(f"| {row['fault']} | {listed} | {row['changed']} | {named} | {row['explained']:.1%} | {right} |")
    return lines
