"""Thresholds from a few networks drawn at random, and how all others do by them; pure functions of measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.calibration.panel import ALONE, Chance, Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.measures import Unit
from harness.measures.panel.threshold import PROVISIONAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.few.distances import Distances
    from harness.measures.panel.threshold import Calibrated


@dataclass(frozen=True, eq=False)
class Networks:
    """A data set's networks: the panel's rows, the calibrating networks, others that are healthy, and mutants.

    `reference` and `mutants` are (networks, rows), NaN where a row was not measured.
    """

    panel: Panel
    distances: Distances
    budgets: Mapping[str, float]
    by_hand: frozenset[str]
    healthy: np.ndarray
    mutants: np.ndarray


@dataclass(frozen=True, eq=False)
class Split:
    """Thresholds from a few networks: the checks that have one, their widths, and the networks that fail.

    `alarms` is (reference models held out,), by their names in `held`; `caught` is (mutants,). `signs` are the held out
    that pass, but are beyond the threshold of an informational check, which a line under `PASS` names.
    """

    checks: np.ndarray
    width: np.ndarray
    held: tuple[str, ...]
    alarms: np.ndarray
    signs: np.ndarray
    caught: np.ndarray
    failed: np.ndarray


def panel_of(networks: Networks, chosen: np.ndarray, *, chance: bool = True) -> Panel:
    """Return the panel of these networks, by their positions; without `chance` each row's own spread counts."""
    found, known = networks.distances, {}
    for row in networks.panel.checks if chance else ():
        if row.id not in found.chance:
            continue
        if len(chosen) > 1:
            above = np.triu_indices(len(chosen), 1)
            variance = float(found.chance[row.id][np.ix_(chosen, chosen)][above].mean())
        elif row.id in found.answers:
            value = float(found.values[row.id][chosen[0]])
            share = value / row.n if row.unit is Unit.IMAGES else value
            variance = ALONE * share * (1 - share) * (row.n if row.unit is Unit.IMAGES else 1 / row.n)
        else:
            continue
        rest = float(found.rest[row.id][chosen].mean()) if row.id in found.rest else None
        known[row.id] = Chance(variance, rest, row.id in found.answers)
    models = tuple(
        ReferenceModel(found.networks[at], "", None, {row: float(values[at]) for row, values in found.values.items()})
        for at in chosen
    )
    return replace(networks.panel, models=models, chance=known)


def held_against(networks: Networks, calibrated: list[Calibrated], chosen: np.ndarray) -> Split:
    """Hold the other networks against these thresholds."""
    rows = networks.panel.checks
    sign = np.array([row.sign for row in rows])
    checks = np.array([not item.informational and item.check.id not in networks.by_hand for item in calibrated])
    thresholds = np.array([item.threshold for item in calibrated])
    centres = np.array([item.mean for item in calibrated])
    others = np.setdiff1d(np.arange(len(networks.distances.networks)), chosen)
    values = np.array([networks.distances.values[row.id] for row in rows]).T
    held = np.vstack([values[others], networks.healthy])
    names = [
        *(networks.distances.networks[at] for at in others),
        *(f"outside {at}" for at in range(len(networks.healthy))),
    ]

    def beyond(measured: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray((sign * measured < sign * thresholds) & rows)  # A comparison with NaN is false.

    alarms = beyond(held, checks)
    named = np.array([bool(item.informational) and item.check.id not in networks.by_hand for item in calibrated])
    named &= len(chosen) >= PROVISIONAL
    return Split(
        checks,
        np.abs(centres - thresholds),
        tuple(names),
        np.any(alarms, axis=1),
        np.any(beyond(held, named), axis=1) & ~np.any(alarms, axis=1),
        np.any(beyond(networks.mutants, checks), axis=1),
        np.any(alarms, axis=0),
    )


def split(networks: Networks, chosen: np.ndarray, *, chance: bool = True) -> Split:
    """Calibrate by these networks and hold the others against the thresholds."""
    panel = panel_of(networks, chosen, chance=chance)
    return held_against(networks, thresholds_of(panel, networks.budgets, by_hand=networks.by_hand), chosen)
