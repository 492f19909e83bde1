"""Ways to divide the 1% of false alarms among families and checks, by what each would detect.

Nothing is measured.

Half of the mutants choose, the others confirm: every second one of each kind. A division gives each
row a share, and so its multiplier. A network fails if a row lies farther from the panel's mean than
that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.detection.judgement import TRIVIAL
from benchmarks.detection.mutants import HEALTHY
from benchmarks.detection.paths import CHECKS, PANEL
from benchmarks.detection.results import Result, measured_results
from benchmarks.runner import table
from harness.calibration.panel import read_panel
from harness.calibration.shares import ALARMS, CLEAN, parts_of, share_of
from harness.calibration.thresholds import multiplier
from harness.checks import read_checks
from harness.measures.panel.threshold import PanelCheck, least_of, on_scales, widened


@dataclass(frozen=True)
class Standing:
    """Distances of networks to the bad side of the panel, (networks, rows).

    They are in standard deviations of prediction. Each reference model is compared with the others.
    """

    mutants: np.ndarray
    healthy: np.ndarray
    members: np.ndarray


def compare_all() -> None:
    """Compare ways to divide the 1% of false alarms among families, by the results kept."""
    print(comparison())


def comparison() -> str:
    """Return a table of all divisions.

    It has today's checks that were measured on every network. It has the mutants that a division
    detects, among those that choose and those that confirm, and the mean number of rows that fail
    one. Then follow the networks of the recipe that it fails. `nearest` is the distance of the
    worst of these in shares of its threshold's: 1 is on the threshold.
    """
    checks, panel, measured = read_checks(CHECKS), read_panel(PANEL), measured_results()
    by_id = {check.id: check for check in checks.checks}
    rows = tuple(
        row
        for row in panel.checks
        if (check := by_id.get(row.id))
        and check.panel
        and not check.informational
        and not check.hand
        if all(kept.rows.get(row.id) is not None for kept in measured)
    )
    values = panel.values(rows)

    def standing(chosen: Sequence[Result]) -> np.ndarray:
        networks = np.array(
            [[kept.rows[row.id] for row in rows] for kept in chosen], dtype=np.float64
        )
        return np.stack([off_by(network, values, rows) for network in networks])

    found = Standing(
        standing(
            [
                kept
                for kept in measured
                if kept.kind != HEALTHY and (kept.clean_accuracy or 0) >= TRIVIAL
            ]
        ),
        standing([kept for kept in measured if kept.kind == HEALTHY]),
        np.stack(
            [off_by(values[at], np.delete(values, at, axis=0), rows) for at in range(len(values))]
        ),
    )
    lines = []
    for name, shares in _divisions(rows, found).items():
        assert shares.sum() <= ALARMS * (1 + 1e-9), f"{name}: {shares.sum()}"
        k = multiplier(shares, reference_models=len(values))
        mutants, sound = found.mutants / k, (found.healthy / k, found.members / k)
        failing, nearest = (
            f"{(mutants > 1).sum(axis=1).mean():.1f}",
            f"{max(each.max() for each in sound):.2f}",
        )
        caught = (_caught(mutants[half::2], 1) for half in (0, 1))
        lines.append((name, *caught, failing, *(_caught(each, 1) for each in sound), nearest))
    head = (
        "the 1% is divided",
        "chosen on",
        "confirmed on",
        "rows failing",
        "healthy failed",
        "members failed",
    )
    return table((*head, "nearest"), lines)


def _divisions(rows: Sequence[PanelCheck], found: Standing) -> dict[str, np.ndarray]:
    """Return the share of each row by each division, (rows,)."""
    names = list(dict.fromkeys(row.family for row in rows))
    among = {name: np.array([row.family == name for row in rows]) for name in names}
    of_family = {name: [row for row in rows if row.family == name] for name in names}

    def shared(shares: Mapping[str, float]) -> np.ndarray:
        """Return equal shares within each family."""
        return sum(
            (among[name] * shares[name] / among[name].sum() for name in names), np.zeros(len(rows))
        )

    def weighted(weights: Mapping[str, float]) -> np.ndarray:
        return shared({name: ALARMS * weights[name] / sum(weights.values()) for name in names})

    ours = np.zeros(len(rows))
    for name in names:
        ours[among[name]] = share_of(name, names) * parts_of(of_family[name], of_family[name])
    half = {
        name: ALARMS / 2 if name == CLEAN else ALARMS / 2 / max(12, len(names) - 1)
        for name in names
    }
    equal = shared(dict.fromkeys(names, ALARMS / len(names)))
    k = multiplier(equal, reference_models=len(found.members))
    caught = {name: _caught((found.mutants / k)[::2, among[name]], 1) for name in names}
    return {
        "by the weights of `harness.calibration.shares`": ours,
        "half for clean, twelfths of the other half": shared(half),
        "equal parts": equal,
        "sixteenths": shared(dict.fromkeys(names, ALARMS / max(16, len(names)))),
        "by rows": weighted({name: float(among[name].sum()) for name in names}),
        "by the root of rows": weighted({name: math.sqrt(among[name].sum()) for name in names}),
        "by power (mutants caught by the first half)": weighted(
            {name: 1.0 + caught[name] for name in names}
        ),
        "spent in the order of the file, 6 / (pi j)^2": shared(
            {name: ALARMS * 6 / (math.pi * at) ** 2 for at, name in enumerate(names, start=1)}
        ),
        "one multiplier for all rows": np.full(len(rows), ALARMS / len(rows)),
    }


def _caught(standing: np.ndarray, k: float) -> int:
    return int((standing > k).any(axis=1).sum())


def off_by(measured: np.ndarray, values: np.ndarray, rows: Sequence[PanelCheck]) -> np.ndarray:
    """Return the distance of a network to reference models, (rows,).

    It is in standard deviations of prediction. On the bad side it is positive. `measured` are its
    values of the rows, (rows,), `values` theirs, (K, rows).
    """
    scaled, away = on_scales(values, rows), on_scales(measured, rows)
    spread = np.maximum(scaled.std(axis=0, ddof=1), least_of(scaled, rows))
    return np.asarray(
        (scaled.mean(axis=0) - away) / spread / widened(len(values)) * [row.sign for row in rows]
    )
