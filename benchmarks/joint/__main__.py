"""One number for the whole profile of a network's deviations.

Rules, what they detect, and their false alarms.

`python -m benchmarks.joint` compares the rules on stored results.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.joint.compare import (
    DRAWS,
    NEW,
    ORDINARY,
    SHARES,
    Compared,
    Confirmed,
    Networks,
    compare,
    networks,
    nominal,
    with_few,
)  # fmt: skip
from benchmarks.runner import keep, option, run, table, write_between

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))


def tables(found: Networks, compared: Sequence[Compared], confirmed: Sequence[Confirmed]) -> str:
    """Return the comparison on the half that chooses, and the chosen rule on the other."""
    mutants = found.mutants & found.choosing
    choose, families = int(mutants.sum()), len({check.family for check in found.checks})
    at, of = (
        ", ".join(f"{share:.1%}" for share in SHARES),
        ", ".join(f"{share:.0%}" for share in ORDINARY),
    )
    rules = [
        (
            each.rule,
            ", ".join(str(each.choosing[share]) for share in SHARES),
            ", ".join(str(each.healthy[share]) for share in SHARES),
            ", ".join(f"{each.beyond[share]:.0%}" for share in ORDINARY),
        )
        for each in compared
    ]
    rule_head = ("rule", f"detected of {choose} at {at}", "networks of the recipe beyond the limit")
    chosen = []
    for each in confirmed:
        detected, failed = (
            f"{each.detected} of {each.mutants}",
            f"{len(each.failed)} of {each.healthy}",
        )
        both = (each.by_gate, each.by_either, f"{failed} {' '.join(each.failed)}")
        chosen.append((each.rule, f"{each.share:.1%}", detected, *both))
    few = [
        (f"{each[0]}", f"{each[1]:.0%}", f"{each[2]:.1%}", f"{each[3]:.1%}")
        for each in with_few(found)
    ]
    chosen_head = ("chosen rule, other half", "share", "detected", "by the gate", "by either")
    few_head = (
        "reference models, 200 draws",
        "level",
        "networks of the recipe beyond it",
        "mutants beyond it",
    )
    level_head = (
        "Cauchy combination at its own level",
        "networks",
        "of the recipe",
        "mutants",
        "with the gate",
    )
    return "\n\n".join(
        [
            f"{len(found.checks)} checks of {families} families, {len(found.panel)} reference "
            f"models. The gate detects {int(found.detected[mutants].sum())} of the {choose} "
            "mutants that choose.",
            table((*rule_head, f"beyond the limits of {of}"), rules),
            table((*chosen_head, "networks of the recipe failed"), chosen),
            table(level_head, _nominal(found)),
            table(few_head, few),
        ]
    )


def _nominal(found: Networks) -> Iterator[tuple[str, ...]]:
    """Yield the Cauchy combination at its own levels, on the networks seen and on new ones."""
    new = np.array([name in NEW for name in found.names])
    for words, among in (("seen", ~new), ("new", new)):
        healthy, mutants = int((found.healthy & among).sum()), int((found.mutants & among).sum())
        for level, *counts, either in nominal(found, among) if healthy + mutants else ():
            yield (
                f"{level:.1%}",
                words,
                f"{counts[0]} of {healthy}",
                f"{counts[1]} of {mutants}",
                f"{either}",
            )


def main(*, draws: int, write: bool) -> None:
    """Compare the rules on stored results, and print the tables."""
    compared, confirmed = compare(found := networks(), draws=draws)
    print(said := tables(found, compared, confirmed))
    if write:
        keep(RESULTS, {"compared": compared, "confirmed": confirmed})
        write_between(README, "joint", said)


COMMANDS = {
    "": (
        main,
        option("--draws", type=int, default=DRAWS, help=f"simulated panels (default: {DRAWS:,})"),
        option(
            "--write",
            action="store_true",
            help="put the tables into README.md, the numbers beside it",
        ),
    )
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--draws 200 --write"))
