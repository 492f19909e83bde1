"""EfficientNet-Lite0 of ImageNet, fine-tuned on emoji of four vendors, well and badly.

`python -m benchmarks.transfer` prints the tables of what was measured; other commands measure.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.few.splits import draws
from benchmarks.runner import option, run, table, write_between
from benchmarks.transfer.measure import measure_all
from benchmarks.transfer.network import TEST, TRAIN
from benchmarks.transfer.pictures import write_pictures
from benchmarks.transfer.splits import Split, Stored, split, stored
from benchmarks.transfer.train import HEALTHY, train_all
from harness.measures.panel.threshold import Calibrated, widened

SIZES = (4, 6, 8)
BySize = Mapping[int, tuple[list[Split], int]]
"""For each K, the splits and the number of panels that calibration refuses."""
_Z90 = 1.2816
_AGAIN = 2_000
"""Draws of the bootstrap over networks."""
_SHOWN = 4
"""Checks that the table names for a mutant."""


def splits_of(found: Stored, size: int, most: int) -> tuple[list[Split], int]:
    """Return the splits with K reference models, and how many panels calibration refuses."""
    drawn = tqdm(draws(found.healthy, size, most), unit="split", smoothing=0)
    made = [
        split(found, np.random.default_rng(chosen.tolist()).permutation(chosen)) for chosen in drawn
    ]
    return [each for each in made if each], made.count(None)


def alarms_of(made: Sequence[Split], names: Sequence[str]) -> np.ndarray:
    """Return the share of the splits in which each of these networks fails, (names,).

    Only splits that hold it out count.
    """
    return _shares(made, names, lambda one, name: bool(one.failed[name]))


def signs_of(made: Sequence[Split], names: Sequence[str]) -> np.ndarray:
    """Return the share of splits in which each network passes despite an odd value, (names,).

    An odd value is beyond an informational threshold.
    """
    return _shares(made, names, lambda one, name: bool(one.signs[name]) and not one.failed[name])


def _shares(
    made: Sequence[Split], names: Sequence[str], holds: Callable[[Split, str], bool]
) -> np.ndarray:
    """Return the share of the splits in which something holds of each network, (names,).

    Only splits that hold it out count.
    """
    return np.array(
        [np.mean([holds(one, name) for one in made if name in one.failed]) for name in names]
    )


def drop_at_90(item: Calibrated) -> float:
    """Return the drop of a group that its check fails with 90% power.

    The formula is that of the harness for 95%.
    """
    error, n = item.spread * widened(item.reference_models), item.check.n
    middle = item.k * error + _Z90**2 / (2 * n)
    return middle + math.sqrt(max(middle**2 - (item.k**2 - _Z90**2) * error**2, 0.0))


def alarms_table(found: Stored, by_size: BySize) -> str:
    """Return the table of false alarms, detection and thresholds, a line for each K."""
    healthy, mutants = found.names[: found.healthy], found.names[found.healthy :]
    rows = []
    for size, (made, refused) in by_size.items():
        shares = alarms_of(made, healthy)
        again = np.random.default_rng(size).choice(shares, (_AGAIN, len(shares))).mean(axis=1)
        low, high = np.quantile(again, [0.025, 0.975])
        checks = [[item for item in one.calibrated if not item.informational] for one in made]
        of_vendors = [
            item
            for one in made
            for item in one.calibrated
            if item.check.metric == "group_difference"
        ]
        rows.append(
            (
                size,
                f"{len(made)} ({refused})",
                f"{shares.mean():.1%} ({low:.1%} to {high:.1%})",
                f"{signs_of(made, healthy).mean():.1%}",
                f"{alarms_of(made, mutants).sum():.1f} of {len(mutants)}",
                f"{np.mean([len(each) for each in checks]):.1f} of {len(made[0].calibrated)}",
                *(f"{_mean_of(checks, family):.1f}" for family in ("class-difference", "class")),
                f"{100 * np.median([drop_at_90(item) for item in of_vendors]):.1f} points",
            )
        )
    beyond = "healthy networks that pass beyond an informational threshold"
    head = ("K", "splits (refused)", "false alarms of the whole gate", beyond, "mutants detected")
    head = (
        *head,
        "checks with a threshold",
        "class differences with one, of 8",
        "class accuracies with one, of 8",
    )
    return table((*head, "drop of a vendor at 90% power"), rows)


def mutants_table(found: Stored, by_size: BySize) -> str:
    """Return the table of detection, a line for each kind of mutant."""
    fewest, rows = by_size[min(by_size)][0], []
    for kind in dict.fromkeys(map(kind_of, found.names)):
        names = [name for name in found.names if kind_of(name) == kind]
        accuracy = 1 - found.wrong[[found.names.index(name) for name in names]].mean()
        by_name = [one.failed[name] for one in fewest for name in names if name in one.failed]
        most = Counter(check for failed in by_name for check in failed).most_common(_SHOWN)
        named = ", ".join(f"`{check}` {count / len(by_name):.0%}" for check, count in most) or "–"
        title = kind.replace("-", " ") + (
            f" ({len(names)})" if kind == HEALTHY or len(names) > 1 else ""
        )
        shares = (f"{alarms_of(made, names).mean():.0%}" for made, _ in by_size.values())
        rows.append(
            (title, f"{accuracy:.1%}", *shares, f"{signs_of(fewest, names).mean():.0%}", named)
        )
    at = f"at K = {min(by_size)}"
    fails = (f"fails at K = {size}" for size in by_size)
    beyond, by_share = (
        f"passes beyond an informational threshold {at}",
        f"checks {at}, by share of splits",
    )
    return table(("fine-tuning", "accuracy", *fails, beyond, by_share), rows)


def kind_of(name: str) -> str:
    """Return the kind of a network from its name."""
    return name.rpartition("-seed-")[0]


def _mean_of(checks: Sequence[Sequence[Calibrated]], family: str) -> float:
    return float(np.mean([sum(item.check.family == family for item in each) for each in checks]))


def tables(*, splits: int, write: bool) -> None:
    """Print the tables of what was measured; other commands measure."""
    found = stored()
    by_size = {size: splits_of(found, size, splits) for size in SIZES}
    for name, text in (
        ("alarms", alarms_table(found, by_size)),
        ("mutants", mutants_table(found, by_size)),
    ):
        print(f"{text}\n")
        if write:
            write_between(Path(__file__).parent / "README.md", name, text)


def pictures(*, packages: Path) -> None:
    """Write training and test images from the npm packages."""
    train, test = write_pictures(packages, TRAIN, TEST)
    print(f"{train} training images, {test} test images")


COMMANDS = {
    "": (
        tables,
        option(
            "--splits", type=int, default=200, help="sets of networks for each K (default: 200)"
        ),
        option("--write", action="store_true", help="put the tables into README.md"),
    ),
    "pictures": (
        pictures,
        option(
            "packages", type=Path, help="folder with a folder for each vendor, an extracted package"
        ),
    ),
    "train": (train_all,),
    "measure": (measure_all,),
}

if __name__ == "__main__":
    sys.exit(run(COMMANDS, "--splits 3 --write"))
