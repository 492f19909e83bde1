"""Thresholds from a few networks drawn at random, and how all others do by them.

Pure functions of measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb

import numpy as np

from benchmarks.few.stored import Distances
from harness.calibration.panel import ALONE, Chance, Panel, ReferenceModel
from harness.calibration.thresholds import thresholds_of
from harness.measures import Unit
from harness.measures.panel.threshold import PROVISIONAL


@dataclass(frozen=True, eq=False)
class Networks:
    """A data set's networks.

    The panel's rows, the calibrating networks, others that are healthy, and mutants.

    `reference` and `mutants` are (networks, rows), NaN where a row was not measured.
    """

    panel: Panel
    distances: Distances
    by_hand: frozenset[str]
    healthy: np.ndarray
    mutants: np.ndarray


@dataclass(frozen=True, eq=False)
class Split:
    """Thresholds from a few networks.

    The checks that have one, their widths, and the networks that fail.

    `alarms` is (reference models held out,), by their names in `held`; `caught` is (mutants,).
    `signs` are the held out that pass, but are beyond the threshold of an informational check,
    which a line under `PASS` names. By row, `detectable_drops` are the minimum detectable drops,
    and `alarm_counts` the numbers of reference models that fail.
    """

    checks: np.ndarray
    width: np.ndarray
    detectable_drops: np.ndarray
    held: tuple[str, ...]
    alarms: np.ndarray
    signs: np.ndarray
    caught: np.ndarray
    failed: np.ndarray
    alarm_counts: np.ndarray


def panel_of(networks: Networks, chosen: np.ndarray, *, chance: bool = True) -> Panel:
    """Return the panel of these networks, by their positions.

    Without `chance` each row's own spread counts.
    """
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
            variance = (
                ALONE * share * (1 - share) * (row.n if row.unit is Unit.IMAGES else 1 / row.n)
            )
        else:
            continue
        rest = float(found.rest[row.id][chosen].mean()) if row.id in found.rest else None
        known[row.id] = Chance(variance, rest, row.id in found.answers)
    models = tuple(
        ReferenceModel(
            found.networks[at],
            "",
            None,
            {row: float(values[at]) for row, values in found.values.items()},
        )
        for at in chosen
    )
    return replace(networks.panel, models=models, chance=known)


def split(networks: Networks, chosen: np.ndarray, *, chance: bool = True) -> Split:
    """Calibrate by these networks and hold the others against the thresholds."""
    rows, by_hand, known = networks.panel.checks, networks.by_hand, networks.distances
    calibrated = thresholds_of(panel_of(networks, chosen, chance=chance), by_hand=by_hand)
    sign = np.array([row.sign for row in rows])
    thresholds, centres = (
        np.array([getattr(item, name) for item in calibrated]) for name in ("threshold", "mean")
    )
    gating = np.array(
        [not item.informational and item.check.id not in by_hand for item in calibrated]
    )
    named = np.array(
        [bool(item.informational) and item.check.id not in by_hand for item in calibrated]
    )
    others = np.setdiff1d(np.arange(len(known.networks)), chosen)
    held = np.vstack([np.array([known.values[row.id] for row in rows]).T[others], networks.healthy])
    outside = [f"outside {at}" for at in range(len(networks.healthy))]

    def beyond(measured: np.ndarray, checks: np.ndarray) -> np.ndarray:
        return np.asarray(
            (sign * measured < sign * thresholds) & checks
        )  # A comparison with NaN is false.

    alarms, signs = beyond(held, gating), beyond(held, named & (len(chosen) >= PROVISIONAL))
    return Split(
        checks=gating,
        width=np.abs(centres - thresholds),
        detectable_drops=np.array([item.minimum_detectable_drop for item in calibrated]),
        held=(*(known.networks[at] for at in others), *outside),
        alarms=alarms.any(axis=1),
        signs=signs.any(axis=1) & ~alarms.any(axis=1),
        caught=beyond(networks.mutants, gating).any(axis=1),
        failed=alarms.any(axis=0),
        alarm_counts=alarms.sum(axis=0),
    )


def alarms_by_network(splits: Sequence[Split]) -> dict[str, list[bool]]:
    """Return for each network whether it fails, once for each split that holds it out."""
    by_network: dict[str, list[bool]] = {}
    for each in splits:
        for name, alarm in zip(each.held, each.alarms, strict=True):
            by_network.setdefault(name, []).append(bool(alarm))
    return by_network


def interval_over_networks(
    by_network: Mapping[str, Sequence[bool]], *, seed: int
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the rate of alarms over the networks held out."""
    shares = np.array([np.mean(alarms) for alarms in by_network.values()])
    again = np.random.default_rng(seed).choice(shares, (2_000, len(shares))).mean(axis=1)
    low, high = np.quantile(again, [0.025, 0.975])
    return float(low), float(high)


def draws(count: int, size: int, splits: int) -> list[np.ndarray]:
    """Return so many different sets of `size` of `count` networks, drawn at random.

    All sets if there are no more.
    """
    if comb(count, size) <= splits:
        return [np.array(chosen) for chosen in combinations(range(count), size)]
    rng = np.random.default_rng(size)
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < splits:
        drawn[tuple(sorted(rng.permutation(count)[:size].tolist()))] = None
    return [np.array(chosen) for chosen in drawn]
