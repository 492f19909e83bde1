"""Run the benchmark: `python -m benchmarks.few`; `--write` puts the tables into README.md."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from benchmarks.few.paths import DIGITS, README
from benchmarks.few.report import digits, fashion, pairs_table, table
from benchmarks.pages import write_between

PROVISIONAL, FEW = (1, 2), (3, 5, 8, 20)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few", description=__doc__)
    parser.add_argument("--splits", type=int, default=1_000)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    with tqdm(unit="split", smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        tables = {"fashion": table(fashion(), PROVISIONAL + FEW, options.splits, advance)}
        if DIGITS.exists():
            tables["digits"] = table(digits(), PROVISIONAL + FEW, options.splits, advance)
        tables["pairs"] = pairs_table()
    for name, text in tables.items():
        print(f"{name}\n\n{text}\n")
        if options.write:
            write_between(README, f"<!-- {name}: begin -->", f"<!-- {name}: end -->", text)


if __name__ == "__main__":
    main()
