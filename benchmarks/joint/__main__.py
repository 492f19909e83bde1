"""Compare the rules on stored results: `python -m benchmarks.joint`; `--write` puts the tables into README.md."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.joint.compare import DRAWS, compare
from benchmarks.joint.networks import networks
from benchmarks.joint.report import tables
from benchmarks.pages import write_between
from benchmarks.smoke import run
from harness.base.files import write_atomically

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.json"))


def main() -> int:
    """Print the tables, and write them with `--write`; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.joint", description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"simulated panels (default: {DRAWS:,})")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md, the numbers beside it")
    options = parser.parse_args()
    compared, confirmed = compare(found := networks(), draws=options.draws)
    said = tables(found, compared, confirmed)
    print(said)
    if options.write:
        numbers = {"compared": [asdict(each) for each in compared], "confirmed": [asdict(each) for each in confirmed]}
        write_atomically(RESULTS, (json.dumps(numbers, indent=1) + "\n").encode())
        write_between(README, "<!-- joint: begin -->", "<!-- joint: end -->", said)
    return 0


if __name__ == "__main__":
    sys.exit(run(main, "--draws 2000 --write"))
