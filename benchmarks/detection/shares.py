"""Ways to divide the 1% of false alarms among families, by what each would detect; nothing is measured for it.

Half of the mutants choose, the others confirm: every second one of each kind. A division gives each family a share and
its multiplier. A network fails if a row lies farther from the panel's mean than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.detection.judgement import TRIVIAL
from benchmarks.detection.mutants import HEALTHY
from benchmarks.detection.paths import CHECKS, PANEL
from benchmarks.detection.results import measured_results
from benchmarks.runner import few, table
from harness.calibration.panel import read_panel
from harness.calibration.thresholds import ALARMS, correlation, multiplier, share_of
from harness.checks import read_checks
from harness.measures.panel.threshold import PanelCheck, least_of, on_scales, widened

DRAWS = few(100_000, 200)


@dataclass(frozen=True)
class Standing:
    """Distances of networks to the bad side of the panel, in standard deviations of prediction, (networks, rows)."""

    mutants: np.ndarray
    healthy: np.ndarray
    members: np.ndarray
    """Each reference model compared with the others."""


@dataclass(frozen=True)
class Compared:
    """Mutants that a division detects, among those that choose and those that confirm, and the controls that it fails.

    `rows` is the mean number of rows that fail a mutant. `nearest` is the distance of the worst control or reference
    model in shares of its threshold's: 1 is on the threshold. Each reference model is compared with the others.
    """

    name: str
    choosing: int
    confirming: int
    rows: float
    healthy: int
    members: int
    nearest: float
    multipliers: Mapping[str, float]


def compare_all() -> list[Compared]:
    """Compare all divisions on the rows that are checks today and were measured on every network."""
    checks, panel = read_checks(CHECKS), read_panel(PANEL)
    measured = measured_results()
    by_id = {check.id: check for check in checks.checks}
    rows = tuple(
        row
        for row in panel.checks
        if (check := by_id.get(row.id)) and check.panel and not check.informational and not check.hand
        if all(kept.rows.get(row.id) is not None for kept in measured)
    )
    values = panel.values(rows)

    def standing(networks: np.ndarray) -> np.ndarray:
        return np.stack([off_by(network, values, rows) for network in networks])

    def of(kind: Callable[[str, float], bool]) -> np.ndarray:
        chosen = [kept for kept in measured if kind(kept.kind, kept.clean_accuracy or 0)]
        return standing(np.array([[kept.rows[row.id] for row in rows] for kept in chosen], dtype=np.float64))

    found = Standing(
        of(lambda kind, accuracy: kind != HEALTHY and accuracy >= TRIVIAL),
        of(lambda kind, _: kind == HEALTHY),
        np.stack([off_by(values[at], np.delete(values, at, axis=0), rows) for at in range(len(values))]),
    )
    return [_compared(name, found, rows, ks) for name, ks in _divisions(values, rows, found).items()]


def _divisions(values: np.ndarray, rows: Sequence[PanelCheck], found: Standing) -> dict[str, dict[str, float]]:
    """Return the multiplier of each family by each division."""
    names = list(dict.fromkeys(row.family for row in rows))
    signed = on_scales(values, rows) * [row.sign for row in rows]
    among = {name: np.array([row.family == name for row in rows]) for name in names}

    def shared(shares: Mapping[str, float]) -> dict[str, float]:
        """Return the multipliers with which each family has this share, in the same order as `names`."""
        total = sum(shares.values())
        assert total <= ALARMS * (1 + 1e-9), f"shares of {total}"
        return {
            name: multiplier(
                correlation(signed[:, among[name]]), share=shares[name], reference_models=len(values), draws=DRAWS
            )
            for name in names
        }

    def weighted(weights: Mapping[str, float]) -> dict[str, float]:
        return shared({name: ALARMS * weights[name] / sum(weights.values()) for name in names})

    equal = shared(dict.fromkeys(names, ALARMS / len(names)))
    caught = {name: _caught(found.mutants[::2, among[name]], equal[name]) for name in names}
    everything = multiplier(correlation(signed), share=ALARMS, reference_models=len(values), draws=DRAWS)
    return {
        "half for clean, twelfths of the other half": shared({name: share_of(name, names) for name in names}),
        "equal parts": equal,
        "sixteenths": shared(dict.fromkeys(names, ALARMS / max(16, len(names)))),
        "by rows": weighted({name: float(among[name].sum()) for name in names}),
        "by the root of rows": weighted({name: math.sqrt(among[name].sum()) for name in names}),
        "by power (mutants caught by the first half)": weighted({name: 1.0 + caught[name] for name in names}),
        "spent in the order of the file, 6 / (pi j)^2": shared(
            {name: ALARMS * 6 / (math.pi * at) ** 2 for at, name in enumerate(names, start=1)}
        ),
        "one multiplier for all rows": dict.fromkeys(names, everything),
    }


def _caught(standing: np.ndarray, k: float) -> int:
    return int((standing > k).any(axis=1).sum())


def _compared(name: str, found: Standing, rows: Sequence[PanelCheck], multipliers: Mapping[str, float]) -> Compared:
    k = np.array([multipliers[row.family] for row in rows])
    choosing, confirming = found.mutants[::2] / k, found.mutants[1::2] / k
    healthy, members = found.healthy / k, found.members / k
    return Compared(
        name,
        _caught(choosing, 1),
        _caught(confirming, 1),
        float((found.mutants > k).sum(axis=1).mean()),
        _caught(healthy, 1),
        _caught(members, 1),
        float(max(healthy.max(), members.max())),
        multipliers,
    )


def compared_table(compared: Sequence[Compared]) -> str:
    """Return the comparison in Markdown."""
    head = (
        "the 1% is divided",
        "chosen on",
        "confirmed on",
        "rows failing",
        "healthy failed",
        "members failed",
        "nearest",
    )
    return table(
        head,
        (
            (of.name, of.choosing, of.confirming, f"{of.rows:.1f}", of.healthy, of.members, f"{of.nearest:.2f}")
            for of in compared
        ),
    )


def off_by(measured: np.ndarray, values: np.ndarray, rows: Sequence[PanelCheck]) -> np.ndarray:
    """Return the distance of a network to reference models, (rows,), in standard deviations of prediction.

    On the bad side it is positive. `measured` are its values of the rows, (rows,), `values` theirs, (K, rows).
    """
    scaled, away = on_scales(values, rows), on_scales(measured, rows)
    spread = np.maximum(scaled.std(axis=0, ddof=1), least_of(scaled, rows))
    return np.asarray((scaled.mean(axis=0) - away) / spread / widened(len(values)) * [row.sign for row in rows])
