"""The comparison of rules: limits by simulation of the whole procedure, and what each rule then detects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.joint.rules import RULES, cauchy, profile
from harness.calibration.thresholds import correlation
from harness.measures.panel.threshold import least_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.joint.networks import Networks
    from benchmarks.joint.rules import Profile

DRAWS = 12_000
"""Simulated panels, each with one more reference model."""
SHARES = (0.001, 0.005, 0.01)
"""Shares of false alarms that limits are made for."""
LARGEST = 0.99
"""Largest p-value in the combination of the gate, see `harness.measures.statistics.combined_p`."""
NOMINAL = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
"""Levels at which the Cauchy combination is taken at its word, without a simulation."""
FEW_MODELS, FEW_LEVELS = (3, 5, 8), (0.05, 0.01)
"""Numbers of reference models, and levels, of the combination with few of them."""
ORDINARY = (0.5, 0.2, 0.1, 0.05)
"""Shares that a limit must also keep if the simulation holds: enough networks reach these."""
DECIDING = 0.005
"""The share at which a rule is chosen."""
_BATCH = 500


@dataclass(frozen=True)
class Compared:
    """One rule: limits by share, what it detects of the mutants that choose, and networks of the recipe that it fails.

    `beyond` is the share of these networks, of the choosing half, beyond the limits of the `ORDINARY` shares.
    """

    rule: str
    limits: Mapping[float, float]
    choosing: Mapping[float, int]
    healthy: Mapping[float, int]
    beyond: Mapping[float, float]


@dataclass(frozen=True)
class Confirmed:
    """The chosen rule on the other half, at one share: mutants detected, with the gate too, and networks failed."""

    rule: str
    share: float
    detected: int
    mutants: int
    by_gate: int
    by_either: int
    failed: tuple[str, ...]
    healthy: int


@dataclass(frozen=True)
class Nominal:
    """The Cauchy combination at a level, without a simulation: networks that it finds, and the gate or it."""

    level: float
    healthy: int
    mutants: int
    either: int


def nominal(found: Networks, among: np.ndarray) -> list[Nominal]:
    """Return what the one-sided Cauchy combination finds at its own levels; `among` (N,) selects networks."""
    p = _p(found.panel, found, average_of(found))
    healthy, mutants = found.healthy & among, ~found.healthy & ~found.trivial & among
    return [
        Nominal(
            level,
            int((p <= level)[healthy].sum()),
            int((p <= level)[mutants].sum()),
            int(((p <= level) | found.detected)[mutants].sum()),
        )
        for level in NOMINAL
    ]


@dataclass(frozen=True)
class Few:
    """The Cauchy combination with thresholds from few reference models, drawn at random: mean shares of networks."""

    models: int
    level: float
    healthy: float
    mutants: float


def few(found: Networks, *, draws: int = 200, seed: int = 0) -> list[Few]:
    """Return what the combination finds by `FEW_MODELS` of the reference models, at each of `FEW_LEVELS`."""
    rng, average = np.random.default_rng(seed), average_of(found)
    mutants, said = ~found.healthy & ~found.trivial, []
    for models in FEW_MODELS:
        rare = np.zeros((len(FEW_LEVELS), len(found.names)))
        for _ in range(draws):
            panel = found.panel[rng.choice(len(found.panel), models, replace=False)]
            p = _p(panel, found, average)
            rare += [p <= level for level in FEW_LEVELS]
        said += [
            Few(models, level, float(shares[found.healthy].mean()), float(shares[mutants].mean()))
            for level, shares in zip(FEW_LEVELS, rare / draws, strict=True)
        ]
    return said


def _p(panel: np.ndarray, found: Networks, average: np.ndarray) -> np.ndarray:
    statistic = cauchy(profile(panel, found.values, average, least_of(panel, found.checks)), most=LARGEST)
    return np.asarray(0.5 - np.arctan(statistic) / np.pi)


def average_of(found: Networks) -> np.ndarray:
    """Return the matrix that makes means by family of a profile, (checks, families)."""
    families = list(dict.fromkeys(check.family for check in found.checks))
    member = np.array([[check.family == family for family in families] for check in found.checks], dtype=np.float64)
    return np.asarray(member / member.sum(axis=0))


def compare(found: Networks, *, draws: int = DRAWS, seed: int = 0) -> tuple[list[Compared], list[Confirmed]]:
    """Compare all rules on the half that chooses, and confirm the one that detects most there on the other half."""
    average = average_of(found)
    simulated = simulate(found.panel, average, draws=draws, seed=seed)
    numbers = of_each(profile(found.panel, found.values, average, least_of(found.panel, found.checks)))
    mutants, half = ~found.healthy & ~found.trivial, found.choosing

    def counted(name: str, share: float, among: np.ndarray) -> int:
        return int((numbers[name] > np.quantile(simulated[name], 1 - share))[among].sum())

    compared = [
        Compared(
            name,
            {share: float(np.quantile(simulated[name], 1 - share)) for share in SHARES},
            {share: counted(name, share, mutants & half) for share in SHARES},
            {share: counted(name, share, found.healthy & half) for share in SHARES},
            {
                share: counted(name, share, found.healthy & half) / int((found.healthy & half).sum())
                for share in ORDINARY
            },
        )
        for name in RULES
    ]
    rule = max(compared, key=lambda each: each.choosing[DECIDING]).rule
    confirmed = []
    for share in SHARES:
        beyond = numbers[rule] > np.quantile(simulated[rule], 1 - share)
        others, rest = mutants & ~half, found.healthy & ~half
        confirmed.append(
            Confirmed(
                rule,
                share,
                int(beyond[others].sum()),
                int(others.sum()),
                int(found.detected[others].sum()),
                int((beyond | found.detected)[others].sum()),
                tuple(name for name, failed in zip(found.names, beyond & rest, strict=True) if failed),
                int(rest.sum()),
            )
        )
    return compared, confirmed


def simulate(panel: np.ndarray, average: np.ndarray, *, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Return each rule's number of one more reference model, (draws,), for panels drawn anew.

    Each draw is of K + 1 networks from the normal distribution with the panel's shrunk correlations. Everything is
    estimated again from K of them: mean, spread, components and shrinkage.
    """
    rng, models = np.random.default_rng(seed), len(panel)
    variances, directions = np.linalg.eigh(correlation(panel))
    root = (directions * np.sqrt(np.maximum(variances, 0))).T.astype(np.float32)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
    for start in range(0, draws, _BATCH):
        size = min(_BATCH, draws - start)
        values = (rng.standard_normal((size, models + 1, len(root)), dtype=np.float32) @ root).astype(np.float64)
        for name, numbers in of_each(profile(values[:, :-1], values[:, -1:], average)).items():
            parts[name].append(numbers[:, 0])
    return {name: np.concatenate(numbers) for name, numbers in parts.items()}


def of_each(found: Profile) -> dict[str, np.ndarray]:
    """Return the number that each rule makes of the networks, by the rule's name."""
    return {name: rule(found) for name, rule in RULES.items()}
