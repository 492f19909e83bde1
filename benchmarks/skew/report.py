"""The page of the benchmark: goals beside what is reached, and a row for each planted fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.runner import Goal, few, goals_table, table, write_between

README = Path(__file__).parent / "README.md"
LEAST_CHANGED, LEAST_FAULTS, RIGHT, LEAST_IDENTICAL = few(30, 5), 40, 0.9, 50
"""Changed predictions of a fault that counts, faults, share of right names, and identical
pipelines.
"""
PAPER = {"decode, FFmpeg": 0.98, "resize": 0.75, "color mode": 0.09, "float16": 0.0}
"""Points of accuracy that a ResNet-50 loses by each stage, from the table of SysNoise (arXiv
2307.00280).
"""
Row = Mapping[str, Any]
Results = dict[str, list[dict[str, Any]]]


def is_right(row: Row) -> bool:
    """Return whether the fault's own cause is named, alone."""
    return bool(row["named"]) and row["causes"] == [row["cause"]]


def outcome_of_pair(row: Row) -> str:
    """Return how much of the pair is named, as text.

    The pair itself, one of its two causes, none, or another cause.
    """
    if not row["named"]:
        return "none of them"
    if is_right(row):
        return "the pair"
    if row["cause"] in row["causes"]:
        return "the pair, or another cause"
    return (
        "one of the two"
        if all(set(causes) < set(row["cause"]) for causes in row["causes"])
        else "another cause"
    )


def _counted(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["changed"] >= LEAST_CHANGED]


def goals(results: Results) -> list[Goal]:
    """Return each goal, what is reached, and whether that is enough."""
    counted, identical = _counted(results["faults"]), results["identical"]
    n, right, unlisted = (
        len(counted),
        sum(map(is_right, counted)),
        sum(not row["listed"] for row in counted),
    )
    wrong = sum(
        row["named"] and not is_right(row) and row["cause"] not in row["causes"] for row in counted
    )
    blamed = sum(row["outcome"] == "different" for row in identical)
    right_share = f"{right} of {n} ({right / max(n, 1):.1%})"
    enough_identical = not blamed and len(identical) >= LEAST_IDENTICAL
    return [
        (
            f"at least {LEAST_FAULTS} faults that change {LEAST_CHANGED} predictions",
            f"{n}",
            n >= LEAST_FAULTS,
        ),
        ("half of them are not in the catalog", f"{unlisted}", 2 * unlisted >= n),
        (f"the right cause is named for {RIGHT:.0%}", right_share, right >= RIGHT * n),
        ("no wrong cause is named", f"{wrong}", not wrong),
        (
            f"none of at least {LEAST_IDENTICAL} identical pipelines is called different",
            f"{blamed} of {len(identical)}",
            enough_identical,
        ),
    ]


def write_page(results: Results) -> None:
    """Write goals, faults and pairs into the page, with the number of named pairs.

    A pair is named whole, in part or not at all.
    """
    pairs = results["pairs"]
    counted = _counted(pairs)
    outcomes = table(("named", "pairs"), Counter(map(outcome_of_pair, counted)).most_common())
    of_pairs = f"{len(counted)} of {len(pairs)} pairs count.\n\n{outcomes}\n\n{_faults(pairs)}"
    write_between(README, "pairs", of_pairs if pairs else "No pair has a result yet.")
    write_between(
        README, "results", f"{goals_table(goals(results))}\n\n{_faults(results['faults'])}"
    )


def write_photographs(results: Results, *, images: int) -> None:
    """Write the faults of so many photographs and each stage into the page.

    The paper's loss of accuracy stands beside a stage.
    """
    counted, rows = _counted(results["faults"]), []
    right = sum(map(is_right, counted))
    for stage in dict.fromkeys(row["stage"] for row in results["stages"]):
        of_stage = [row for row in results["stages"] if row["stage"] == stage]
        changed = sum(row["changed"] / row["n"] for row in of_stage) / len(of_stage)
        moved = sum(row["moved"] for row in of_stage) / len(of_stage)
        lost = f"{PAPER[stage]:.2f} points" if stage in PAPER else "–"
        rows.append((stage, len(of_stage), f"{changed:.1%}", f"{moved:.4f}", lost))
    head = (
        "stage",
        "skews",
        "predictions changed, mean",
        "probability moved, mean",
        "accuracy lost in the paper",
    )
    said = (
        f"{right} of {len(counted)} faults are named ({right / max(len(counted), 1):.1%}), from "
        f"{images} photographs."
    )
    write_between(
        README, "photographs", f"{said}\n\n{_faults(results['faults'])}\n\n{table(head, rows)}"
    )


def _faults(rows: Sequence[Row]) -> str:
    cells = []
    for row in _counted(rows):
        named = (
            " or ".join(" and ".join(causes) for causes in row["causes"])
            if row["named"]
            else "none of them"
        )
        listed, right = ("yes" if yes else "no" for yes in (row["listed"], is_right(row)))
        cells.append(
            (row["fault"], listed, row["changed"], named, f"{row['explained']:.1%}", right)
        )
    return table(("fault", "in the catalog", "changed", "named", "explained", "right"), cells)
