"""The command line, `python -m benchmarks.detection`: train, measure, report, and make for a single mutant."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.detection.mutants import MUTANTS, Mutant
from benchmarks.detection.paths import (
    BACKDOORS,
    BASELINE,
    CHECKPOINTS,
    CHECKS,
    COLOUR,
    FLIPPED,
    PARENTS,
    QUICK_CHECKS,
    QUICK_RESULTS,
    RESULTS,
    sha256_of,
)
from harness.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.networks.training import Epoch

_OK, _INCOMPLETE, _REFUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 when something was left undone, or 2 for bad usage and refused input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # So that processes started end as well.
    try:
        status: int = options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _REFUSED
    except KeyboardInterrupt:
        print("interrupted: finished work is kept; run the command again to continue", file=sys.stderr)
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection", description="Measure what the gate detects, on mutants made on purpose."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary.replace("%", "%%"), description=summary)
        command.set_defaults(run=run)
        return command

    def add_checkpoints(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--checkpoints",
            type=Path,
            default=CHECKPOINTS,
            metavar="DIR",
            help="the folder of the mutants' checkpoints (default: runs/detection)",
        )

    def add_queue_options(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--jobs", type=_positive, default=1, metavar="N", help="processes side by side (default: 1)"
        )
        command.add_argument(
            "--only", default="*", metavar="GLOB", help="only mutants whose id matches, such as 'less-*'"
        )
        add_checkpoints(command)

    train = add("train", _train, "Make what has no result with today's rows yet; start it again at any time to go on.")
    add_queue_options(train)
    train.add_argument("--again", action="store_true", help="also those that have such results, in both profiles")
    measure = add("measure", _measure, "Run the gate on every checkpoint that has no result yet.")
    add_queue_options(measure)
    measure.add_argument(
        "--quick", action="store_true", help="in the quick profile, by its checks; kept beside the others"
    )
    flip = add("flip", _flip, "Lose 100 net correct predictions of controls, many times, and count failing checks.")
    add_checkpoints(flip)
    parents = add("parents", _parents, "Compare mutated weights with the sound ones that they were made from.")
    add_checkpoints(parents)
    doors = add("backdoors", _backdoors, "Show backdoored networks their trigger, which the gate does not know.")
    add_checkpoints(doors)
    colour = add("colour", _colour, "Show the network of examples/digits_on_photos its channels in the wrong order.")
    add_checkpoints(colour)
    add("report", _report, "Judge the results against today's checks file and write the tables of the README.")
    add("shares", _shares, "Compare ways to divide the 1% of false alarms among families, by the results kept.")
    make = add("make", _make, "Make one mutant in this process.")
    make.add_argument("mutant", metavar="ID")
    add_checkpoints(make)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def matching(pattern: str) -> tuple[Mutant, ...]:
    """Return the mutants whose id matches the glob, in the table's order; raises `InputError` when none does."""
    found = tuple(mutant for mutant in MUTANTS if fnmatchcase(mutant.id, pattern))
    if not found:
        raise InputError(f"no mutant's id matches {pattern!r}; ids look like {MUTANTS[-1].id} and {MUTANTS[0].id}")
    return found


def _train(options: argparse.Namespace) -> int:
    from benchmarks.detection.measure import is_measured
    from benchmarks.detection.train import train_all
    from harness.checks import read_checks

    folder, baseline_sha256 = options.checkpoints.resolve(), sha256_of(BASELINE)
    whole, quick = read_checks(CHECKS).checks, read_checks(QUICK_CHECKS).checks

    def measured(mutant: Mutant) -> bool:
        return not options.again and all(
            is_measured(mutant, checks, results, baseline_sha256=baseline_sha256)
            for checks, results in ((whole, RESULTS), (quick, QUICK_RESULTS))
        )

    done = train_all(matching(options.only), folder, side_by_side=options.jobs, measured=measured)
    return _OK if done else _INCOMPLETE


def _make(options: argparse.Namespace) -> int:
    from benchmarks.detection.make import make
    from benchmarks.smoke import fashion_mnist, few
    from harness.networks.training import SHIPPED

    (mutant,) = matching(options.mutant)
    shipped = SHIPPED["augmented"]
    sizes = {"epochs": few(shipped.epochs, 1), "validation_size": few(shipped.validation_size, 20)}

    def show(epoch: Epoch) -> None:
        print(
            f"epoch {epoch.epoch}: loss {epoch.training_loss:.4f}, validation accuracy {epoch.validation_accuracy:.4f}",
            flush=True,
        )

    make(
        mutant,
        options.checkpoints.resolve(),
        load_images=lambda: fashion_mnist("train"),
        shipped=replace(shipped, **sizes),
        on_epoch=show,
    )
    return _OK


def _measure(options: argparse.Namespace) -> int:
    from benchmarks.detection.measure import measure_all

    folder = options.checkpoints.resolve()
    done = measure_all(matching(options.only), folder, side_by_side=options.jobs, quick=options.quick)
    return _OK if done else _INCOMPLETE


def _flip(options: argparse.Namespace) -> int:
    from benchmarks.detection.flipped import flip_all

    drawn = flip_all(MUTANTS, options.checkpoints.resolve(), FLIPPED)
    print(f"{drawn.failed} of {drawn.draws} draws fail, {drawn.failed_by_clean} by the threshold of clean accuracy")
    return _OK


def _parents(options: argparse.Namespace) -> int:
    from benchmarks.detection.parents import compare_all

    compared = compare_all(MUTANTS, options.checkpoints.resolve(), PARENTS)
    print(f"{len(compared)} mutants of weights are compared with their parents")
    return _OK


def _backdoors(options: argparse.Namespace) -> int:
    from benchmarks.detection.backdoors import open_all

    for name, found in open_all(MUTANTS, options.checkpoints.resolve(), BACKDOORS).items():
        print(
            f"{name}: {found.stamped:.2%} of stamped images are predicted as the target, "
            f"{found.unstamped:.2%} unstamped"
        )
    return _OK


def _colour(options: argparse.Namespace) -> int:
    from benchmarks.detection.colour import show_all

    show_all(options.checkpoints.resolve(), COLOUR)
    return _OK


def _shares(options: argparse.Namespace) -> int:  # noqa: ARG001
    from benchmarks.detection.shares import compare_all, table

    print("\n".join(table(compare_all())))
    return _OK


def _report(options: argparse.Namespace) -> int:  # noqa: ARG001
    from benchmarks.detection.report import write_report

    write_report()
    return _OK
