"""The commands of the benchmark: `python -m benchmarks.detection` trains, measures and reports."""

from __future__ import annotations

import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.detection import besides, colour, shares
from benchmarks.detection.make import make, make_all
from benchmarks.detection.measure import is_measured, measure_all
from benchmarks.detection.mutants import MUTANTS, Mutant
from benchmarks.detection.paths import CHECKPOINTS
from benchmarks.detection.report import write_report
from benchmarks.runner import fashion_mnist, few, option, run
from harness.base.errors import InputError
from harness.networks.training import SHIPPED, Epoch


def matching(pattern: str) -> tuple[Mutant, ...]:
    """Return the mutants whose id matches the glob, in the table's order; raises `InputError` when none does."""
    found = tuple(mutant for mutant in MUTANTS if fnmatchcase(mutant.id, pattern))
    if not found:
        raise InputError(f"no mutant's id matches {pattern!r}; ids look like {MUTANTS[-1].id} and {MUTANTS[0].id}")
    return found


def train(*, only: str, jobs: int, checkpoints: Path, again: bool) -> int:
    """Make what has no result with today's rows yet; start it again at any time to go on."""

    def measured(mutant: Mutant) -> bool:
        return not again and all(is_measured(mutant, quick=quick) for quick in (False, True))

    return not make_all(matching(only), checkpoints.resolve(), side_by_side=jobs, measured=measured)


def make_one(*, mutant: str, checkpoints: Path) -> None:
    """Make one mutant in this process."""
    (wanted,), shipped = matching(mutant), SHIPPED["augmented"]

    def show(epoch: Epoch) -> None:
        said = f"loss {epoch.training_loss:.4f}, validation accuracy {epoch.validation_accuracy:.4f}"
        print(f"epoch {epoch.epoch}: {said}", flush=True)

    make(
        wanted,
        checkpoints.resolve(),
        load_images=lambda: fashion_mnist("train"),
        shipped=replace(shipped, epochs=few(shipped.epochs, 1), validation_size=few(shipped.validation_size, 20)),
        on_epoch=show,
    )


def measure(*, only: str, jobs: int, checkpoints: Path, quick: bool) -> int:
    """Run the gate on every checkpoint that has no result yet."""
    return not measure_all(matching(only), checkpoints.resolve(), side_by_side=jobs, quick=quick)


def flip(*, checkpoints: Path) -> None:
    """Lose 100 net correct predictions of controls, many times, and count failing checks."""
    drawn = besides.flip_all(checkpoints.resolve())
    print(f"{drawn.failed} of {drawn.draws} draws fail, {drawn.failed_by_clean} by the threshold of clean accuracy")


def parents(*, checkpoints: Path) -> None:
    """Compare mutated weights with the sound ones that they were made from."""
    print(f"{len(besides.compare_all(checkpoints.resolve()))} mutants of weights are compared with their parents")


def backdoors(*, checkpoints: Path) -> None:
    """Show backdoored networks their trigger, which the gate does not know."""
    for name, found in besides.open_all(checkpoints.resolve()).items():
        shown = f"{found.stamped:.2%} of stamped images are predicted as the target, {found.unstamped:.2%} unstamped"
        print(f"{name}: {shown}")


def channels(*, checkpoints: Path) -> None:
    """Show the network of examples/digits_on_photos its channels in the wrong order."""
    colour.show_all(checkpoints.resolve())


def divisions() -> None:
    """Compare ways to divide the 1% of false alarms among families, by the results kept."""
    print(shares.compared_table(shares.compare_all()))


def report() -> None:
    """Judge the results against today's checks file and write the tables of the README."""
    write_report()


_FOLDER = option(
    "--checkpoints",
    type=Path,
    default=CHECKPOINTS,
    metavar="DIR",
    help="the folder of the mutants' checkpoints (default: runs/detection)",
)
_QUEUE = (
    option(
        "--jobs", type=int, choices=range(1, 65), default=1, metavar="N", help="processes side by side (default: 1)"
    ),
    option("--only", default="*", metavar="GLOB", help="only mutants whose id matches, such as 'less-*'"),
    _FOLDER,
)
_AGAIN = option("--again", action="store_true", help="also those that have such results, in both profiles")
_QUICK = option("--quick", action="store_true", help="in the quick profile, by its checks; kept beside the others")
COMMANDS = {
    "train": (train, *_QUEUE, _AGAIN),
    "measure": (measure, *_QUEUE, _QUICK),
    "flip": (flip, _FOLDER),
    "parents": (parents, _FOLDER),
    "backdoors": (backdoors, _FOLDER),
    "colour": (channels, _FOLDER),
    "report": (report,),
    "shares": (divisions,),
    "make": (make_one, option("mutant", metavar="ID"), _FOLDER),
}

if __name__ == "__main__":
    sys.exit(
        run(
            COMMANDS,
            "train --again --only healthy-seed-101",
            "train --again --only backdoor-1-seed-201",
            "train --again --only weight-noise-1-seed-201",
            "measure --quick --only healthy-seed-101",
            *("flip", "parents", "backdoors", "colour", "shares", "report"),
        )
    )
