"""Served predictions explained by those of a pipeline.

Counts, and tests that noise and chance do not explain them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.measures.statistics import proportion_interval

ALPHA = 0.01
"""Probability of a wrong statement about a served model."""
NOISE = 1e-3
"""Share of answers that another machine or runtime changes at most; 2 of 10,000 were measured."""


@dataclass(frozen=True)
class Explanation:
    """Counts of N images.

    Served predictions that are `changed` from the reference, and what a pipeline makes of them.

    The pipeline gives the served answer to those `explained`. It changes those `introduced`, which
    are served as the reference answers them. `net` is the share of changed predictions explained,
    less the share introduced; at most 1. `agreement` is the share of all images with the served
    answer, and `disagreements` the number of the others. `interval` is Wilson's 95% interval of the
    share of changed predictions that are explained.
    """

    n: int
    changed: int
    explained: int
    introduced: int

    @property
    def net(self) -> float:
        return (self.explained - self.introduced) / max(self.changed, 1)

    @property
    def agreement(self) -> float:
        return 1 - self.disagreements / self.n

    @property
    def disagreements(self) -> int:
        return self.changed - self.explained + self.introduced

    @property
    def interval(self) -> tuple[float, float]:
        return proportion_interval(self.explained, self.changed) if self.changed else (0.0, 1.0)


def explanation(served: np.ndarray, reference: np.ndarray, answers: np.ndarray) -> Explanation:
    """Return how a pipeline's answers explain the served ones, all (N,) classes."""
    changed, alike = served != reference, answers == served
    return Explanation(
        len(served),
        int(changed.sum()),
        int((changed & alike).sum()),
        int((~changed & ~alike).sum()),
    )


def better_p(served: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Return the p of the exact one-sided sign test that the first answers explain more.

    The answers to explain are the served ones. It is 1 without any difference. It counts the images
    where exactly one of the two gives the served answer.
    """
    from scipy.stats import binom

    wins = int(((first == served) & (second != served)).sum())
    losses = int(((first != served) & (second == served)).sum())
    return float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0


def noise_p(count: int, n: int) -> float:
    """Return the probability that noise alone changes as many answers of n, at the rate `NOISE`."""
    from scipy.stats import binom

    return float(binom.sf(count - 1, n, NOISE))


def least_changes(comparisons: int) -> int:
    """Return how many changed predictions it takes to name a pipeline among so many comparisons."""
    return int(np.ceil(np.log2(comparisons / ALPHA)))


def is_unrelated(served: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether answers agree no more often than answers to other images would.

    The test is binomial.
    """
    from scipy.stats import binom

    classes = np.union1d(served, reference).tolist()
    by_chance = sum(float((served == each).mean() * (reference == each).mean()) for each in classes)
    return (
        float(binom.sf((served == reference).sum() - 1, len(served), min(by_chance, 1.0))) >= ALPHA
    )


def fits_image_before(positions: np.ndarray, served: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether answers (N,) fit the reference's to the images before theirs.

    Answers to images numbered from 1 do. They must agree significantly more often, and disagree at
    most half as often. `positions` are ascending.
    """
    follows = np.flatnonzero(np.diff(positions) == 1) + 1
    if not len(follows) or positions[0] == 0:
        return False
    own, before, answers = reference[follows], reference[follows - 1], served[follows]
    halved = 2 * (answers != before).sum() <= (answers != own).sum()
    return bool(halved) and better_p(answers, before, own) < ALPHA
