"""Run the benchmark: `python -m benchmarks.few`, and `… measure` to measure the networks anew that it is about."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from benchmarks.few.paths import CHECKPOINTS, README
from benchmarks.smoke import few, run
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZES = (1, 2, 3, 5, 8, 20)[few(0, 2) : few(6, 3)]


def main() -> int:
    """Print the tables, or measure; returns 0, or 2 for what cannot be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few", description=__doc__)
    parser.add_argument("--splits", type=int, default=1_000, help="sets of networks for each K (default: 1,000)")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.add_argument("--only", choices=TABLES, help="this table alone")
    parser.set_defaults(run=_tables)
    commands = parser.add_subparsers(metavar="measure")
    measure = commands.add_parser(
        "measure", help="measure the networks anew; resumable", description="Replace the stored measurements."
    )
    measure.set_defaults(run=_measure)
    measure.add_argument(
        "what",
        choices=("fashion", "digits", "answers"),
        help="Fashion: the shipped panel, about 2 CPU minutes a network unless a calibration has measured it. Digits: "
        "networks of the example, trained first, 10 CPU minutes in all. Answers: predictions of the panel and of "
        "mutants for consensus.",
    )
    measure.add_argument(
        "--checkpoints",
        type=Path,
        metavar="DIR",
        help="digits: where networks are trained (default: runs/few); answers: where mutants are (runs/detection)",
    )
    options = parser.parse_args()
    try:
        options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(options: argparse.Namespace) -> None:
    from benchmarks.detection.paths import CHECKPOINTS as OF_DETECTION
    from benchmarks.few.measure import measure_answers, measure_digits, measure_fashion

    if options.what == "fashion":
        measure_fashion()
    elif options.what == "digits":
        measure_digits(options.checkpoints or CHECKPOINTS)
    else:
        measure_answers(options.checkpoints or OF_DETECTION)


def _tables(options: argparse.Namespace) -> None:
    from benchmarks.pages import write_between

    for name in (options.only,) if options.only else TABLES:
        text = _with_progress(name, options.splits)
        print(f"{name}\n\n{text}\n")
        if options.write:
            write_between(README, f"<!-- {name}: begin -->", f"<!-- {name}: end -->", text)


def _with_progress(name: str, splits: int) -> str:
    with tqdm(unit="split", desc=name, smoothing=0) as bar:

        def advance() -> None:
            bar.update()

        return TABLES[name](splits, advance)


def _fashion(splits: int, on_split: Callable[[], None]) -> str:
    from benchmarks.few.report import fashion, table

    return table(fashion(), SIZES, splits, on_split)


def _digits(splits: int, on_split: Callable[[], None]) -> str:
    from benchmarks.few.report import digits, table

    return table(digits(), SIZES, splits, on_split)


def _pairs(splits: int, on_split: Callable[[], None]) -> str:  # noqa: ARG001
    from benchmarks.few.report import pairs_table

    return pairs_table()


def _consensus(splits: int, on_split: Callable[[], None]) -> str:
    from benchmarks.few.consensus import asked, consensus_table

    return consensus_table(asked(), splits, on_split)


TABLES: Mapping[str, Callable[[int, Callable[[], None]], str]] = {
    "fashion": _fashion,
    "digits": _digits,
    "pairs": _pairs,
    "consensus": _consensus,
}


if __name__ == "__main__":
    sys.exit(run(main, "--splits 2 --write", "measure digits", "--splits 2 --only digits --write", "measure answers"))
