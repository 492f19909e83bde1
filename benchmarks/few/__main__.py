"""Thresholds from few reference models, tested on held-out networks of the same recipe.

`python -m benchmarks.few` prints the tables; its command `measure` measures the networks anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.detection.judgement import TRIVIAL
from benchmarks.detection.mutants import HEALTHY
from benchmarks.detection.paths import RESULTS
from benchmarks.detection.results import read_result
from benchmarks.few.case_measure import measure_case
from benchmarks.few.case_tables import cases_table, left_out_table
from benchmarks.few.cases import CASES
from benchmarks.few.consensus import asked, consensus_table
from benchmarks.few.incumbent import log_loss_table
from benchmarks.few.measure import measure_answers, measure_digits, measure_fashion
from benchmarks.few.splits import (
    Networks,
    Split,
    alarms_by_network,
    draws,
    interval_over_networks,
    split,
)
from benchmarks.few.stored import (
    DIGITS,
    DIGITS_CHECKS,
    DIGITS_PANEL,
    FASHION,
    FASHION_CHECKS,
    FASHION_PANEL,
    PAIRS,
    read_distances,
)  # fmt: skip
from benchmarks.runner import few, option, read, run, table, write_between
from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.measures.statistics import mcnemar_p

SIZES = (1, 2, 3, 5, 8, 20)[few(0, 2) : few(6, 3)]
MARGINS = (0.0, 0.002, 0.005, 0.01, 0.02)
LEVELS = (0.01, 0.001)


def fashion() -> Networks:
    """Return networks of the shipped panel, with controls and mutants of `benchmarks.detection`."""
    results = [read_result(path.stem) for path in sorted(RESULTS.glob("*-seed-*.json"))]
    known = [result for result in results if result and result.clean_accuracy is not None]
    networks = _networks(FASHION, FASHION_CHECKS, FASHION_PANEL)
    rows = [row.id for row in networks.panel.checks]

    def values(*, healthy: bool) -> np.ndarray:
        chosen = [each for each in known if (each.kind == HEALTHY) == healthy]
        chosen = [each for each in chosen if healthy or (each.clean_accuracy or 0) >= TRIVIAL]
        found = [[each.rows.get(row) for row in rows] for each in chosen]
        return np.array(found, dtype=np.float64).reshape(len(found), len(rows))

    return replace(networks, healthy=values(healthy=True), mutants=values(healthy=False))


def digits() -> Networks:
    """Return reference models of the example of digits on photographs."""
    return _networks(DIGITS, DIGITS_CHECKS, DIGITS_PANEL)


def _networks(measured: Path, checks_file: Path, panel_file: Path) -> Networks:
    checks, distances = read_checks(checks_file), read_distances(measured)
    panel = read_panel(panel_file, checks)
    panel = replace(panel, checks=tuple(row for row in panel.checks if row.id in distances.values))
    nobody = np.empty((0, len(panel.checks)))
    by_hand = frozenset(check.id for check in checks.checks if check.hand)
    return Networks(panel, distances, by_hand, nobody, nobody)


def row_of(networks: Networks, size: int, splits: int, reference: Split) -> tuple[str, ...]:
    """Calibrate by each of `splits` sets of K networks, and test all others.

    If fewer sets exist, all are used. Widths are those of the checks with a threshold in the
    reference, relative to its own, the median of a split. Detection counts the mutants that the
    reference catches. The interval is a bootstrap over the networks held out.
    """
    found, refused = [], 0
    for chosen in tqdm(
        draws(len(networks.distances.networks), size, splits),
        unit="split",
        smoothing=0,
        leave=False,
    ):
        try:
            found.append(split(networks, chosen))
        except InputError:
            refused += 1
    by_network = alarms_by_network(found)
    low, high = interval_over_networks(by_network, seed=size)
    alarms, signs = (
        np.mean(np.concatenate([getattr(each, name) for each in found]))
        for name in ("alarms", "signs")
    )
    outside = [np.mean(alarms) for name, alarms in by_network.items() if name.startswith("outside")]
    caught = (
        [each.caught[reference.caught].mean() for each in found] if reference.caught.any() else []
    )
    failed = np.mean([each.failed for each in found], axis=0)
    ratios = [np.median((each.width / reference.width)[reference.checks]) for each in found]
    checks = [each.checks.sum() for each in found]
    return (
        f"{size}",
        f"{len(found)}" + (f" ({refused} refused)" if refused else ""),
        f"{alarms:.2%} ({low:.2%} to {high:.2%})",
        f"{np.mean(outside):.2%}" if outside else "–",
        f"{signs:.2%}",
        f"{np.mean(checks):.0f} ({np.quantile(checks, 0.05):.0f})",
        f"{np.median(ratios):.2f}",
        f"{np.mean(caught):.2%}" if caught else "–",
        f"`{networks.panel.checks[int(failed.argmax())].id if failed.any() else 'none'}`",
    )


def table_of(networks: Networks, sizes: Sequence[int], splits: int) -> str:
    """Return the table of a data set's networks."""
    twenty = np.arange(min(20, len(networks.distances.networks)))
    reference = split(networks, twenty, chance=False)
    caught = (
        f", and catch {reference.caught.sum()} of {len(reference.caught)} mutants"
        if len(reference.caught)
        else ""
    )
    head = (
        "K",
        "splits",
        "false alarms",
        "of networks outside",
        "pass beyond an informational threshold",
    )
    head = (
        *head,
        "rows with a threshold (in 95% of splits)",
        "width",
        "detected",
        "alarms most often by",
    )
    return (
        f"Compared with thresholds from {len(twenty)} by each row's own spread: "
        f"{reference.checks.sum()} of {len(networks.panel.checks)} rows have one{caught}.\n\n"
        + table(head, [row_of(networks, size, splits, reference) for size in sizes])
    )


def pairs_table() -> str:
    """Return how often a paired test against one reference model fails another.

    Rates are by margin and level.
    """
    heads, rows = (
        [f"{level:.1%}, over {100 * margin:g} points" for level in LEVELS for margin in MARGINS],
        [],
    )
    for name, found in read(PAIRS).items():
        lost, n = np.array(found["lost"]), found["n"]
        off = ~np.eye(len(lost), dtype=bool)
        p = np.array(
            [mcnemar_p(int(a), int(b)) for a, b in zip(lost[off], lost.T[off], strict=True)]
        )
        drop = (lost - lost.T)[off] / n
        shares = [((p < level) & (drop > margin)).mean() for level in LEVELS for margin in MARGINS]
        rows.append((f"{name} ({n})", *(f"{share:.1%}" for share in shares)))
    return table(("images", *heads), rows)


TABLES: Mapping[str, Callable[[int], str]] = {
    "fashion": lambda splits: table_of(fashion(), SIZES, splits),
    "digits": lambda splits: table_of(digits(), SIZES, splits),
    "pairs": lambda _: pairs_table(),
    "consensus": lambda splits: consensus_table(asked(), splits),
    "cases": cases_table,
    "left out": left_out_table,
    "log loss": lambda _: log_loss_table(),
}
MEASURED: Mapping[str, Callable[[Path | None], None]] = {
    "fashion": measure_fashion,
    "digits": measure_digits,
    "answers": measure_answers,
    **{name: partial(measure_case, name) for name in CASES},
}


def tables(*, splits: int, write: bool, only: str | None) -> None:
    """Print the tables of what was measured; other commands measure."""
    for name in (only,) if only else TABLES:
        text = TABLES[name](splits)
        print(f"{name}\n\n{text}\n")
        if write:
            write_between(Path(__file__).parent / "README.md", name, text)


def measure(*, what: str, checkpoints: Path | None) -> None:
    """Measure the networks anew, and replace the stored measurements; resumable."""
    MEASURED[what](checkpoints)


COMMANDS = {
    "": (
        tables,
        option(
            "--splits", type=int, default=1_000, help="sets of networks for each K (default: 1,000)"
        ),
        option("--write", action="store_true", help="put the tables into README.md"),
        option("--only", choices=TABLES, help="this table alone"),
    ),
    "measure": (
        measure,
        option(
            "what",
            choices=MEASURED,
            help="the shipped panel, networks of the example of digits, predictions for consensus, "
            "or a case",
        ),
        option(
            "--checkpoints",
            type=Path,
            metavar="DIR",
            help="where networks are trained (default: runs/few), or mutants are (runs/detection)",
        ),
    ),
}

if __name__ == "__main__":
    sys.exit(
        run(
            COMMANDS,
            "--splits 2 --write",
            "measure digits",
            "--splits 2 --only digits --write",
            "measure answers",
            "measure shapes",
            "--splits 2 --only cases --write",
        )
    )
