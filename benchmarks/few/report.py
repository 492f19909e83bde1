"""Results of small reference panels, as Markdown."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.detection.results import read_result
from benchmarks.few.distances import read_distances
from benchmarks.few.paths import (
    DIGITS,
    DIGITS_CHECKS,
    DIGITS_PANEL,
    FASHION,
    FASHION_CHECKS,
    FASHION_PANEL,
    MUTANTS,
    PAIRS,
)
from benchmarks.few.splits import Networks, Split, split
from harness.base.errors import InputError
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.measures.statistics import mcnemar_p

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

TRIVIAL = 0.80
"""Mutants of a lower clean accuracy are left out: anyone would notice."""
MARGINS = (0.0, 0.002, 0.005, 0.01, 0.02)
LEVELS = (0.01, 0.001)


def fashion() -> Networks:
    """Return the networks of the shipped panel, the reference models and the mutants of `benchmarks.detection`."""
    results = [read_result(path.stem, MUTANTS) for path in sorted(MUTANTS.glob("*-seed-*.json"))]
    known = [result for result in results if result and result.clean_accuracy is not None]
    networks = _networks(FASHION, FASHION_CHECKS, FASHION_PANEL)

    def values(chosen: Sequence[Mapping[str, float | None]]) -> np.ndarray:
        rows = [[each.get(row.id) for row in networks.panel.checks] for each in chosen]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(networks.panel.checks))

    healthy = values([result.rows for result in known if result.kind == "healthy"])
    worse = [r.rows for r in known if r.kind != "healthy" and (r.clean_accuracy or 0) >= TRIVIAL]
    return Networks(networks.panel, networks.distances, networks.budgets, networks.by_hand, healthy, values(worse))


def digits() -> Networks:
    """Return reference models of the example of digits on photographs."""
    return _networks(DIGITS, DIGITS_CHECKS, DIGITS_PANEL)


def _networks(measured: Path, checks_file: Path, panel_file: Path) -> Networks:
    checks, distances = read_checks(checks_file), read_distances(measured)
    panel = read_panel(panel_file, checks)
    panel = replace(panel, checks=tuple(row for row in panel.checks if row.id in distances.values))
    nobody = np.empty((0, len(panel.checks)))
    by_hand = frozenset(check.id for check in checks.checks if check.hand)
    return Networks(panel, distances, checks.budgets, by_hand, nobody, nobody)


def draws(count: int, size: int, splits: int) -> list[np.ndarray]:
    """Return so many different sets of `size` of `count` networks, drawn at random; all sets if there are no more."""
    if comb(count, size) <= splits:
        return [np.array(chosen) for chosen in combinations(range(count), size)]
    rng = np.random.default_rng(size)
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < splits:
        drawn[tuple(sorted(rng.permutation(count)[:size].tolist()))] = None
    return [np.array(chosen) for chosen in drawn]


@dataclass(frozen=True)
class Line:
    """Thresholds from K networks over all splits: shares in [0, 1], and the 95% `interval` of false alarms."""

    retrains: int
    splits: int
    refused: int
    alarms: float
    interval: tuple[float, float]
    outside: float
    signs: float
    rows: float
    fewest: float
    width: float
    detected: float
    worst: str


def line(
    networks: Networks, retrains: int, splits: int, reference: Split, *, on_split: Callable[[], None] | None = None
) -> Line:
    """Calibrate by each of `splits` sets of K networks, or all sets if fewer exist, and test all others.

    Widths are those of the checks with a threshold in the reference, relative to its own, the median of a split.
    Detection counts the mutants that the reference catches. The interval is a bootstrap over the networks held out.
    """
    found, refused = [], 0
    for chosen in draws(len(networks.distances.networks), retrains, splits):
        try:
            found.append(split(networks, chosen))
        except InputError:
            refused += 1
        if on_split:
            on_split()
    by_network: dict[str, list[bool]] = {}
    for each in found:
        for name, alarm in zip(each.held, each.alarms, strict=True):
            by_network.setdefault(name, []).append(bool(alarm))
    shares = np.array([np.mean(alarms) for alarms in by_network.values()])
    again = np.random.default_rng(retrains).choice(shares, (2_000, len(shares))).mean(axis=1)
    outside = [np.mean(alarms) for name, alarms in by_network.items() if name.startswith("outside")]
    failed = np.mean([each.failed for each in found], axis=0)
    caught = [each.caught[reference.caught].mean() for each in found] if reference.caught.any() else [np.nan]
    ratios = [np.median((each.width / reference.width)[reference.checks]) for each in found]
    checks = [each.checks.sum() for each in found]
    return Line(
        retrains,
        len(found),
        refused,
        float(np.mean([alarm for each in found for alarm in each.alarms])),
        (float(np.quantile(again, 0.025)), float(np.quantile(again, 0.975))),
        float(np.mean(outside)) if outside else float("nan"),
        float(np.mean([sign for each in found for sign in each.signs])),
        float(np.mean(checks)),
        float(np.quantile(checks, 0.05)),
        float(np.median(ratios)),
        float(np.mean(caught)),
        networks.panel.checks[int(failed.argmax())].id if failed.any() else "none",
    )


def table(networks: Networks, sizes: Sequence[int], splits: int, on_split: Callable[[], None] | None = None) -> str:
    """Return the table of a data set's networks."""
    twenty = np.arange(min(20, len(networks.distances.networks)))
    reference = split(networks, twenty, chance=False)
    lines = [
        f"Compared with thresholds from {len(twenty)} by each row's own spread: {reference.checks.sum()} of "
        f"{len(networks.panel.checks)} rows have one"
        + (
            f", and catch {reference.caught.sum()} of {len(reference.caught)} mutants."
            if len(reference.caught)
            else "."
        ),
        "",
        "| K | splits | false alarms | of networks outside | pass beyond an informational threshold "
        "| rows with a threshold (in 95% of splits) | width | detected | alarms most often by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in sizes:
        of = line(networks, size, splits, reference, on_split=on_split)
        low, high = of.interval
        refused = f" ({of.refused} refused)" if of.refused else ""
        outside, detected = (f"{x:.2%}" if np.isfinite(x) else "–" for x in (of.outside, of.detected))
        lines.append(
            f"| {of.retrains} | {of.splits}{refused} | {of.alarms:.2%} ({low:.2%} to {high:.2%}) | {outside} "
            f"| {of.signs:.2%} | {of.rows:.0f} ({of.fewest:.0f}) | {of.width:.2f} | {detected} | `{of.worst}` |"
        )
    return "\n".join(lines)


def pairs_table() -> str:
    """Return how often a paired test against one reference model fails another, by margin and level."""
    pairs = json.loads(PAIRS.read_bytes())
    heads = [f"{level:.1%}, over {100 * margin:g} points" for level in LEVELS for margin in MARGINS]
    lines = [f"| images | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name, found in pairs.items():
        lost, n = np.array(found["lost"]), found["n"]
        off = ~np.eye(len(lost), dtype=bool)
        p = np.array([mcnemar_p(int(a), int(b)) for a, b in zip(lost[off], lost.T[off], strict=True)])
        drop = (lost - lost.T)[off] / n
        shares = [((p < level) & (drop > margin)).mean() for level in LEVELS for margin in MARGINS]
        lines.append(f"| {name} ({n}) | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines)
