"""The commands of the benchmark: `python -m benchmarks.detection` trains, measures and reports."""

from __future__ import annotations

import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.detection import besides, colour, shares, triggers
from benchmarks.detection.make import make, make_all
from benchmarks.detection.measure import is_measured, measure_all, measure_rows
from benchmarks.detection.mutants import MUTANTS, Mutant
from benchmarks.detection.paths import CHECKPOINTS
from benchmarks.detection.report import write_report
from benchmarks.runner import fashion_mnist, few, option, run
from harness.base.errors import InputError
from harness.networks.training import SHIPPED, Epoch


def matching(pattern: str) -> tuple[Mutant, ...]:
    """Return the mutants whose id matches the glob, in the table's order.

    Raises:
        InputError: When none does.
    """
    found = tuple(mutant for mutant in MUTANTS if fnmatchcase(mutant.id, pattern))
    if not found:
        raise InputError(
            f"no mutant's id matches {pattern!r}; ids look like {MUTANTS[-1].id} and "
            f"{MUTANTS[0].id}"
        )
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
        said = (
            f"loss {epoch.training_loss:.4f}, validation accuracy {epoch.validation_accuracy:.4f}"
        )
        print(f"epoch {epoch.epoch}: {said}", flush=True)

    make(
        wanted,
        checkpoints.resolve(),
        load_images=lambda: fashion_mnist("train"),
        shipped=replace(
            shipped, epochs=few(shipped.epochs, 1), validation_size=few(shipped.validation_size, 20)
        ),
        on_epoch=show,
    )


def measure(*, only: str, jobs: int, checkpoints: Path, quick: bool) -> int:
    """Run the gate on every checkpoint that has no result yet."""
    return not measure_all(matching(only), checkpoints.resolve(), side_by_side=jobs, quick=quick)


def rows(*, request: Path, reports: Path) -> int:
    """Measure the rows of a request; `measure` starts this for a mutant that lacks some."""
    return not measure_rows(request, reports)


_FOLDER = option(
    "--checkpoints",
    type=Path,
    default=CHECKPOINTS,
    metavar="DIR",
    help="where mutants are (runs/detection)",
)
_QUEUE = (
    option(
        "--jobs",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="processes side by side (default: 1)",
    ),
    option(
        "--only",
        default="*",
        metavar="GLOB",
        help="only mutants whose id matches, such as 'less-*'",
    ),
    _FOLDER,
)
_AGAIN = option(
    "--again", action="store_true", help="also those that have such results, in both profiles"
)
_QUICK = option(
    "--quick",
    action="store_true",
    help="in the quick profile, by its checks; kept beside the others",
)
COMMANDS = {
    "train": (train, *_QUEUE, _AGAIN),
    "measure": (measure, *_QUEUE, _QUICK),
    "rows": (
        rows,
        option("request", type=Path, metavar="FILE"),
        option("reports", type=Path, metavar="DIR"),
    ),
    "flip": (besides.flip_all, _FOLDER),
    "parents": (besides.compare_all, _FOLDER),
    "backdoors": (besides.open_all, _FOLDER),
    "colour": (colour.show_all, _FOLDER),
    "triggers": (triggers.screen_all, _FOLDER),
    "report": (write_report,),
    "shares": (shares.compare_all,),
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
            *("flip", "parents", "backdoors", "triggers", "colour", "shares", "report"),
        )
    )
