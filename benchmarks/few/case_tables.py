"""Tables of the cases.

They show the judged checks, the detections and the false alarms with few reference models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from benchmarks.few.case_store import read_case, rows_file
from benchmarks.few.cases import CASES, SIZES
from benchmarks.few.faults import FAULTS, fault_of
from benchmarks.few.splits import (
    Networks,
    Split,
    alarms_by_network,
    draws,
    interval_over_networks,
    split,
)
from benchmarks.runner import table

REFERENCE_MODELS = (1, 3, 8)
MOST_SPLITS = 100
LEFT_OUT_CASE, LEFT_OUT_SIZE, LEFT_OUT_REFERENCE_MODELS = "voices", 800, (3, 5, 8, 20)
CLEAN = "clean"
CASES_HEAD = (
    *("case", "images", "K", "splits", "families that can fail", "rows that judge"),
    *("detectable drop of clean accuracy", "false alarms of healthy networks", *FAULTS),
)
LEFT_OUT_HEAD = (
    *(
        "K",
        "left-out runs",
        "networks",
        "false alarms",
        "networks with an alarm",
        "one run of each network",
    ),
    "alarms most often by",
)


def cases_table(splits: int) -> str:
    """Return a line for each case, number of test images and number of reference models."""
    settings = [(case, size) for case in CASES for size in SIZES]
    rows = [row for case, size in settings for row in rows_of_case(case, size, splits)]
    return table(CASES_HEAD, rows)


def rows_of_case(case: str, size: int, splits: int) -> list[tuple[str, ...]]:
    """Return a line for each number of reference models that leaves networks to test.

    None if nothing is measured.
    """
    if not rows_file(case, size).exists():
        return []
    networks, names = read_case(case, size)
    counts = [count for count in REFERENCE_MODELS if count < len(networks.distances.networks)]
    return [(case, f"{size:,}", *case_row(networks, names, count, splits)) for count in counts]


def case_row(
    networks: Networks, names: Sequence[str], reference_models: int, splits: int
) -> tuple[str, ...]:
    """Return judged checks, detections and false alarms with so many reference models."""
    measured = splits_of(networks, reference_models, splits)
    rows = networks.panel.checks
    judging = np.array([each.checks for each in measured])
    families = np.array([row.family for row in rows])
    able = [len(np.unique(families[each])) for each in judging]

    clean = [row.id for row in rows].index(CLEAN)
    drops = [each.detectable_drops[clean] for each in measured if each.checks[clean]]
    return (
        f"{reference_models}",
        f"{len(measured)}",
        f"{np.mean(able):.1f} of {len(networks.panel.families)}",
        f"{judging.sum(axis=1).mean():.0f} of {len(rows)}",
        f"{100 * np.median(drops):.1f} points" if drops else "–",
        _rate(measured, seed=reference_models),
        *(f"{share:.0%}" for share in _shares_by_fault(measured, names).values()),
    )


def left_out_table(splits: int) -> str:
    """Return the false alarms of networks held out, by the number of reference models."""
    networks, _ = read_case(LEFT_OUT_CASE, LEFT_OUT_SIZE)
    return table(
        LEFT_OUT_HEAD,
        [left_out_row(networks, count, splits) for count in LEFT_OUT_REFERENCE_MODELS],
    )


def left_out_row(networks: Networks, reference_models: int, splits: int) -> tuple[str, ...]:
    """Return how often held-out networks fail, with an exact interval.

    The interval is for one run of each network.
    """
    from scipy.stats import binomtest

    measured = splits_of(networks, reference_models, splits)
    by_network = alarms_by_network(measured)
    runs = sum(map(len, by_network.values()))
    alarming = sum(any(alarms) for alarms in by_network.values())

    rng = np.random.default_rng(reference_models)
    single_runs = [bool(rng.choice(alarms)) for alarms in by_network.values()]
    exact = binomtest(sum(single_runs), len(single_runs)).proportion_ci(method="exact")

    alarm_counts = np.sum([each.alarm_counts for each in measured], axis=0)
    most = int(alarm_counts.argmax())
    check = (
        f"`{networks.panel.checks[most].id}` ({alarm_counts[most]} runs)"
        if alarm_counts.any()
        else "none"
    )
    return (
        f"{reference_models}",
        f"{runs:,}",
        f"{len(by_network)}",
        _rate(measured, seed=reference_models),
        f"{alarming}",
        f"{sum(single_runs)} of {len(single_runs)} ({exact.low:.1%} to {exact.high:.1%})",
        check,
    )


def splits_of(networks: Networks, reference_models: int, splits: int) -> list[Split]:
    """Return the splits of sets of so many reference models, at most `MOST_SPLITS`."""
    sets = draws(len(networks.distances.networks), reference_models, min(splits, MOST_SPLITS))
    return [
        split(networks, chosen) for chosen in tqdm(sets, unit="split", smoothing=0, leave=False)
    ]


def _rate(measured: Sequence[Split], *, seed: int) -> str:
    by_network = alarms_by_network(measured)
    low, high = interval_over_networks(by_network, seed=seed)
    rate = np.mean(np.concatenate([each.alarms for each in measured]))
    return f"{rate:.1%} ({low:.1%} to {high:.1%})"


def _shares_by_fault(measured: Sequence[Split], names: Sequence[str]) -> Mapping[str, float]:
    """Return the share of splits and networks in which the gate catches each fault."""
    caught = np.mean([each.caught for each in measured], axis=0)
    faults = [fault_of(name) for name in names]
    return {
        fault: float(
            np.mean([share for share, other in zip(caught, faults, strict=True) if other == fault])
        )
        for fault in FAULTS
    }
