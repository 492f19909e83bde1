"""Rates of false alarms and of detection, with intervals over panels and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.alarms.measure import Values, first_images
from benchmarks.alarms.panels import Candidates, Judged, applicable, asked_rows, judge_all
from benchmarks.alarms.sources import Source
from benchmarks.alarms.train import HEALTHY
from benchmarks.runner import few
from harness.calibration.shares import share_of

MODELS = (1, 2, 3, 5, 8, 20)[few(0, 2) : few(6, 4)]
"""Numbers of reference models."""
PANELS = few(100, 2)
"""Panels of a size in each half of the healthy networks, at most."""
DRAWS = few(1_000, 20)
"""Draws of the bootstrap."""


@dataclass(frozen=True)
class Rate:
    """A rate of runs with an alarm, with its 95% interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Family:
    """A family: its share of false alarms, its rate, and the share of its checks that judge.

    The family `regression` has no share, since its threshold is by hand.
    """

    share: float | None
    alarms: Rate
    judging: float | None

    @property
    def exceeds(self) -> bool:
        """Return whether the rate is above the share, beyond its interval."""
        return self.share is not None and self.alarms.low > self.share


@dataclass(frozen=True)
class Setting:
    """The rates with so many images and reference models.

    `promised` is the sum of the shares of families with a threshold. `power` has the share of runs
    in which networks of a kind fail.
    """

    images: int
    reference_models: int
    panels: int
    refused: int
    candidates: int
    runs: int
    judging: float
    promised: float
    alarms: Rate
    networks_with_alarms: int
    families: Mapping[str, Family]
    power: Mapping[str, float]


def settings_of(source: Source, size: int) -> list[Setting]:
    """Return the settings of a source with the first images, by the number of reference models."""
    by_kind = source.values(size)
    half = len(by_kind[HEALTHY].values) // 2
    return [setting_of(source, by_kind, size, models) for models in MODELS if models <= half]


def setting_of(source: Source, by_kind: Mapping[str, Values], size: int, models: int) -> Setting:
    """Return what panels of so many models say of networks in no panel.

    The panels of each half of the healthy networks judge the other half.
    """
    images = first_images(source.images, size)
    asked = applicable(asked_rows(source.checks, images), models)
    healthy = by_kind[HEALTHY]
    broken = [Candidates(kind, by_kind[kind]) for kind in by_kind if kind != HEALTHY]
    halves = np.array_split(np.arange(len(healthy.values)), 2)
    folds = []
    for own, other in (halves, halves[::-1]):
        panels = [
            healthy.take(own[start : start + models])
            for start in range(0, len(own) - models + 1, models)[:PANELS]
        ]
        candidates = [Candidates(HEALTHY, healthy.take(other)), *broken]
        folds.append(judge_all(panels, candidates, asked, images))
    return summary(folds, size, models)


def summary(folds: Sequence[Judged], size: int, models: int) -> Setting:
    """Return the rates of the panels of both halves."""
    names = folds[0].families
    judging = np.concatenate([fold.judging for fold in folds]).mean(axis=0)
    families = {}
    promised = 0.0
    for at, name in enumerate(names):
        rate = rate_of([fold.alarms[HEALTHY][..., at] for fold in folds])
        if at == len(names) - 1:
            families[name] = Family(None, rate, None)
            continue
        share = share_of(name, names[:-1])
        promised += share if judging[at] else 0.0
        families[name] = Family(share, rate, float(judging[at]))

    alarms = [fold.any_alarm(HEALTHY) for fold in folds]
    return Setting(
        images=size,
        reference_models=models,
        panels=sum(len(fold) for fold in alarms),
        refused=sum(fold.refused for fold in folds),
        candidates=sum(fold.shape[1] for fold in alarms),
        runs=sum(fold.size for fold in alarms),
        judging=float(np.concatenate([fold.all_judging for fold in folds]).mean()),
        promised=promised,
        alarms=rate_of(alarms),
        networks_with_alarms=sum(int(fold.any(axis=0).sum()) for fold in alarms),
        families=families,
        power={
            kind: float(np.mean([fold.any_alarm(kind).mean() for fold in folds]))
            for kind in folds[0].alarms
            if kind != HEALTHY
        },
    )


def rate_of(folds: Sequence[np.ndarray]) -> Rate:
    """Return the rate of alarms, each (panels, networks) bool, with its interval.

    The bootstrap draws panels and networks anew, each with replacement: runs of one panel share its
    thresholds, and those of one network share its habits (Owen 2007, "The pigeonhole bootstrap").
    """
    rng = np.random.default_rng(0)
    drawn = np.mean([_drawn_rates(alarms, rng) for alarms in folds], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    rate = float(np.mean([alarms.mean() for alarms in folds]))
    return Rate(rate, float(low), float(high))


def _drawn_rates(alarms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rate in each draw of panels and networks, (draws,)."""
    weights = []
    for count in alarms.shape:
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
        weights.append((drawn / count).astype(np.float32))
    of_panels, of_networks = weights
    by_network = of_panels @ alarms.astype(np.float32)
    return np.asarray((by_network * of_networks).sum(axis=1))
