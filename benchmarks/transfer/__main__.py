"""Run the benchmark: `python -m benchmarks.transfer` prints the tables of what was measured; other commands measure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks.smoke import run
from benchmarks.transfer.paths import README, TEST, TRAIN
from harness.base.errors import InputError

SIZES = (4, 6, 8)


def main() -> int:
    """Print the tables, or do one step of the measurement; returns 0, or 2 for what cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--splits", type=int, default=200, help="sets of networks for each K (default: 200)")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    parser.set_defaults(run=_tables)
    commands = parser.add_subparsers(metavar="pictures | train | measure")
    pictures = commands.add_parser("pictures", help="write training and test images from the npm packages")
    pictures.add_argument("packages", type=Path, help="folder with a folder for each vendor, an extracted package")
    pictures.set_defaults(run=_pictures)
    commands.add_parser("train", help="fine-tune the networks; resumable").set_defaults(run=_train)
    commands.add_parser("measure", help="measure the networks; resumable").set_defaults(run=_measure)
    options = parser.parse_args()
    try:
        options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _pictures(options: argparse.Namespace) -> None:
    from benchmarks.transfer.pictures import write_pictures

    train, test = write_pictures(options.packages, TRAIN, TEST)
    print(f"{train} training images, {test} test images")


def _train(_: argparse.Namespace) -> None:
    from benchmarks.transfer.train import train_all

    train_all()


def _measure(_: argparse.Namespace) -> None:
    from benchmarks.transfer.measure import measure_all
    from benchmarks.transfer.project import make_project

    make_project()
    measure_all()


def _tables(options: argparse.Namespace) -> None:
    from benchmarks.pages import write_between
    from benchmarks.transfer.report import alarms_table, mutants_table, splits_of
    from benchmarks.transfer.splits import stored

    found = stored()
    with tqdm(unit="split", smoothing=0) as bar:
        by_size = {size: splits_of(found, size, options.splits, lambda: bar.update() and None) for size in SIZES}
    for name, text in (("alarms", alarms_table(found, by_size)), ("mutants", mutants_table(found, by_size))):
        print(f"{text}\n")
        if options.write:
            write_between(README, f"<!-- {name} -->", f"<!-- end of {name} -->", text)


if __name__ == "__main__":
    sys.exit(run(main, "--splits 3 --write"))
