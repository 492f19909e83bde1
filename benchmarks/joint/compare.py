"""The comparison of rules.

Limits by simulation of the whole procedure, and what each rule then detects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf

from benchmarks.detection.judgement import TRIVIAL, judge
from benchmarks.detection.mutants import HEALTHY
from benchmarks.detection.paths import CHECKS, PANEL
from benchmarks.detection.results import measured_results
from benchmarks.joint.rules import RULES, Profile, cauchy, profile
from harness.calibration.panel import read_panel
from harness.checks import read_checks
from harness.measures.panel.threshold import PanelCheck, least_of, on_scales

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
NEW = frozenset(
    {f"{HEALTHY}-seed-{seed}" for seed in range(161, 191)}
    | {
        f"{kind}-3-seed-201"
        for kind in ("relabelled-class", "resized", "raised-background", "artefact", "backdoor")
    }
    | {"backdoor-1-seed-201"}
)
"""Networks that were trained after the rules had been compared on all others."""
_BATCH = 500


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks of `benchmarks.detection`, by the checks that all of them were measured on.

    Values are on each check's scale, more being worse: of reference models, (K, checks), and of
    others, (N, checks). The flags are (N,): `healthy` networks are of the recipe, `detected` are
    those that the gate fails. `choosing` are every second kind of mutant and every second healthy
    seed, which choose a rule; the others confirm it. Mutants of one kind share parents, so kinds
    are not divided.
    """

    checks: tuple[PanelCheck, ...]
    panel: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    healthy: np.ndarray
    trivial: np.ndarray
    detected: np.ndarray
    choosing: np.ndarray

    @property
    def mutants(self) -> np.ndarray:
        """Return which networks are mutants that are not trivial, (N,)."""
        return ~self.healthy & ~self.trivial

    @property
    def average(self) -> np.ndarray:
        """Return the matrix that makes means by family of a profile, (checks, families)."""
        families = list(dict.fromkeys(check.family for check in self.checks))
        member = np.array(
            [[check.family == family for family in families] for check in self.checks],
            dtype=np.float64,
        )
        return np.asarray(member / member.sum(axis=0))

    def profile(self, panel: np.ndarray) -> Profile:
        """Return the deviations from these reference models."""
        return profile(panel, self.values, self.average, least_of(panel, self.checks))

    def p_values(self, panel: np.ndarray) -> np.ndarray:
        """Return the one-sided Cauchy combination of the gate by these reference models, (N,)."""
        return np.asarray(0.5 - np.arctan(cauchy(self.profile(panel), most=LARGEST)) / np.pi)


def networks() -> Networks:
    """Return the networks with a stored result and the checks that all of them have a value of."""
    checks, panel, found = read_checks(CHECKS), read_panel(PANEL), measured_results()
    known = {check.id for check in checks.checks}
    shared = tuple(
        row
        for row in panel.checks
        if row.id in known and all(kept.rows.get(row.id) is not None for kept in found)
    )

    def worse(values: np.ndarray) -> np.ndarray:
        return on_scales(values, shared) * -np.array([row.sign for row in shared])

    first = set(list(dict.fromkeys(kept.kind for kept in found if kept.kind != HEALTHY))[::2])
    return Networks(
        shared,
        worse(panel.values(shared)),
        tuple(kept.id for kept in found),
        worse(
            np.array(
                [[kept.rows[check.id] for check in shared] for kept in found], dtype=np.float64
            )
        ),
        np.array([kept.kind == HEALTHY for kept in found]),
        np.array([kept.kind != HEALTHY and (kept.clean_accuracy or 0) < TRIVIAL for kept in found]),
        np.array([judge(kept, checks).detected for kept in found]),
        np.array(
            [kept.seed % 2 == 1 if kept.kind == HEALTHY else kept.kind in first for kept in found]
        ),
    )


@dataclass(frozen=True)
class Compared:
    """One rule: limits by share, its detections and its false alarms.

    The mutants are those that choose; the networks are of the recipe. `beyond` is the share of
    these networks, of the choosing half, beyond the limits of the `ORDINARY` shares.
    """

    rule: str
    limits: Mapping[float, float]
    choosing: Mapping[float, int]
    healthy: Mapping[float, int]
    beyond: Mapping[float, float]


@dataclass(frozen=True)
class Confirmed:
    """The chosen rule on the other half, at one share.

    Mutants detected, with the gate too, and networks failed.
    """

    rule: str
    share: float
    detected: int
    mutants: int
    by_gate: int
    by_either: int
    failed: tuple[str, ...]
    healthy: int


def compare(
    found: Networks, *, draws: int = DRAWS, seed: int = 0
) -> tuple[list[Compared], list[Confirmed]]:
    """Compare all rules on one half, and confirm the best one on the other half.

    The best rule detects most.
    """
    simulated = simulate(found.panel, found.average, draws=draws, seed=seed)
    numbers = of_each(found.profile(found.panel))
    mutants, healthy = found.mutants & found.choosing, found.healthy & found.choosing

    def limit(name: str, share: float) -> float:
        return float(np.quantile(simulated[name], 1 - share))

    def counted(name: str, share: float, among: np.ndarray) -> int:
        return int((numbers[name] > limit(name, share))[among].sum())

    compared = [
        Compared(
            name,
            {share: limit(name, share) for share in SHARES},
            {share: counted(name, share, mutants) for share in SHARES},
            {share: counted(name, share, healthy) for share in SHARES},
            {share: counted(name, share, healthy) / int(healthy.sum()) for share in ORDINARY},
        )
        for name in RULES
    ]
    rule = max(compared, key=lambda each: each.choosing[DECIDING]).rule
    others, rest, confirmed = found.mutants & ~found.choosing, found.healthy & ~found.choosing, []
    for share in SHARES:
        beyond = numbers[rule] > limit(rule, share)
        sums = beyond, others, found.detected, beyond | found.detected
        failed = tuple(
            name for name, failed in zip(found.names, beyond & rest, strict=True) if failed
        )
        confirmed.append(
            Confirmed(
                rule, share, *(int((each & others).sum()) for each in sums), failed, int(rest.sum())
            )
        )
    return compared, confirmed


def nominal(found: Networks, among: np.ndarray) -> Iterator[tuple[float, int, int, int]]:
    """Yield each nominal level, with the networks and mutants that the combination finds.

    The gate's findings are joined to these. `among` (N,) selects networks.
    """
    p, mutants = found.p_values(found.panel), found.mutants & among
    for level in NOMINAL:
        rare = p <= level
        selected = rare & found.healthy & among, rare & mutants, (rare | found.detected) & mutants
        yield level, *(int(each.sum()) for each in selected)


def with_few(
    found: Networks, *, draws: int = 200, seed: int = 0
) -> Iterator[tuple[int, float, float, float]]:
    """Yield the mean shares of networks and of mutants beyond a level, by few models.

    The networks are of the recipe. They are `FEW_MODELS` of all, drawn at random, each at
    `FEW_LEVELS`.
    """
    rng = np.random.default_rng(seed)
    for models in FEW_MODELS:
        rare = np.zeros((len(FEW_LEVELS), len(found.names)))
        for _ in range(draws):
            p = found.p_values(found.panel[rng.choice(len(found.panel), models, replace=False)])
            rare += [p <= level for level in FEW_LEVELS]
        for level, shares in zip(FEW_LEVELS, rare / draws, strict=True):
            yield (
                models,
                level,
                float(shares[found.healthy].mean()),
                float(shares[found.mutants].mean()),
            )


def simulate(
    panel: np.ndarray, average: np.ndarray, *, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Return each rule's number of one more reference model, (draws,), for panels drawn anew.

    Each draw is of K + 1 networks from the normal distribution with the panel's shrunk
    correlations. Everything is estimated again from K of them: mean, spread, components and
    shrinkage.
    """
    rng, models = np.random.default_rng(seed), len(panel)
    variances, directions = np.linalg.eigh(correlation(panel))
    # The symmetric root: that of the directions alone has signs of the library's choice.
    root = ((directions * np.sqrt(np.maximum(variances, 0))) @ directions.T).astype(np.float32)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in RULES}
    for start in range(0, draws, _BATCH):
        size = min(_BATCH, draws - start)
        values = (
            rng.standard_normal((size, models + 1, len(root)), dtype=np.float32) @ root
        ).astype(np.float64)
        for name, numbers in of_each(profile(values[:, :-1], values[:, -1:], average)).items():
            parts[name].append(numbers[:, 0])
    return {name: np.concatenate(numbers) for name, numbers in parts.items()}


def correlation(values: np.ndarray) -> np.ndarray:
    """Return the correlations of the columns, (checks, checks), shrunk towards zero.

    Ledoit & Wolf 2004. Few models overstate correlations, and so understate the number of
    independent checks. A constant column correlates with no other.
    """
    spread = values.std(axis=0)
    varying = spread > 1e-9 * np.maximum(
        np.abs(values).max(axis=0), 1
    )  # Equal values have a spread by rounding.
    result = np.eye(values.shape[1])
    if varying.sum() > 1:
        standardised = (values[:, varying] - values[:, varying].mean(axis=0)) / spread[varying]
        shrunk, _ = ledoit_wolf(standardised, assume_centered=True)
        scale = np.sqrt(np.diag(shrunk))
        result[np.ix_(varying, varying)] = shrunk / np.outer(scale, scale)
    return result


def of_each(found: Profile) -> dict[str, np.ndarray]:
    """Return the number that each rule makes of the networks, by the rule's name."""
    return {name: rule(found) for name, rule in RULES.items()}
