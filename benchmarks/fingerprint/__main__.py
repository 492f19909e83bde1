"""The fingerprint.

Which combination of weight statistics tells recipes apart, and how well it does on other networks.

`python -m benchmarks.fingerprint` prints the tables; its command `measure` trains networks and
stores their statistics.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.fingerprint.combinations import case_table, combinations_table
from benchmarks.fingerprint.fashion import fashion_table
from benchmarks.fingerprint.measure import CASES, FASHION, measure, read_measured
from benchmarks.runner import option, run, write_between

README = Path(__file__).parent / "README.md"
CHOOSING = ("shapes", "letters")
"""Cases that chose the combination; all others measure it."""


def tables(*, splits: int, write: bool) -> None:
    """Print the tables of the stored statistics."""
    of_cases = {case: read_measured(case) for case in CASES}
    stored = {case: measured for case, measured in of_cases.items() if measured is not None}
    chosen_on = {case: measured for case, measured in stored.items() if case in CHOOSING}
    texts = {"combinations": combinations_table(chosen_on, splits=splits)}
    texts |= {case: case_table(measured, splits=splits) for case, measured in stored.items()}
    fashion = read_measured(FASHION)
    texts |= {FASHION: fashion_table(fashion)} if fashion else {}
    for name, text in texts.items():
        print(f"{name}\n\n{text}\n")
        if write:
            write_between(README, name, text)


COMMANDS = {
    "": (
        tables,
        option(
            "--splits",
            type=int,
            default=50,
            help="sets of reference models for each K (default: 50)",
        ),
        option("--write", action="store_true", help="put the tables into README.md"),
    ),
    "measure": (
        measure,
        option(
            "case", choices=(*CASES, FASHION), help="a case, or the checkpoints of Fashion-MNIST"
        ),
        option(
            "--folder",
            type=Path,
            metavar="DIR",
            help="where networks are trained (default: runs/fingerprint), or mutants are (default: "
            "runs/detection)",
        ),
    ),
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "measure shapes", "measure fashion", "--splits 1 --write"))
