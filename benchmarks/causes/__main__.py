"""Name the causes of stored mutants: `python -m benchmarks.causes`; `--write` puts the tables into README.md."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.causes.measure import causes, letters
from benchmarks.causes.report import letters_table, tables
from benchmarks.pages import write_between
from benchmarks.smoke import run
from harness.base.files import write_atomically

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))


def main() -> int:
    """Print the tables, and write them with `--write`; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.causes", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into README.md, the groups beside it")
    options = parser.parse_args()
    found = causes()
    said = f"{tables(found)}\n\n{letters_table(letters())}"
    print(said)
    if options.write:
        write_atomically(RESULTS, (json.dumps([asdict(each) for each in found], indent=1) + "\n").encode())
        write_between(README, "<!-- causes: begin -->", "<!-- causes: end -->", said)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "--write"))
