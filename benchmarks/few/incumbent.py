"""A paired test of log losses against one incumbent.

How often it fails another network of the same recipe.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import norm

from benchmarks.few.case_store import read_case, rows_file
from benchmarks.few.cases import CASES, SIZES
from benchmarks.few.stored import FASHION, Distances, read_distances
from benchmarks.runner import table

LOG_LOSS = "log-loss-clean"
MARGINS = (0.0, 0.1, 0.25, 0.5)
"""Margins as shares of the incumbent's log loss."""
LEVEL = 0.001


def log_loss_table() -> str:
    """Return a line for each data set.

    Networks that a paired test fails against another one of the same recipe.
    """
    heads = ("images", "networks", "log loss", *(f"more by {margin:.0%}" for margin in MARGINS))
    return table(heads, [(name, *_row(networks)) for name, networks in _measured()])


def _measured() -> Iterable[tuple[str, Distances]]:
    yield "Fashion-MNIST (10,000)", read_distances(FASHION)
    for case in CASES:
        for size in SIZES:
            if rows_file(case, size).exists():
                yield f"`{case}` ({size:,})", read_case(case, size)[0].distances


def _row(networks: Distances) -> tuple[str, ...]:
    """Return shares of ordered pairs of networks whose first loses significantly, by margin."""
    losses = networks.values[LOG_LOSS]
    differences = losses[:, None] - losses
    # Half the squared distances of two networks, over n^2, are half the variance of their mean
    # difference.
    errors = np.sqrt(2 * networks.chance[LOG_LOSS])
    pairs = ~np.eye(len(losses), dtype=bool)
    significant = differences[pairs] > norm.isf(LEVEL) * errors[pairs]
    relative = (differences / losses)[pairs]
    shares = (f"{(significant & (relative > margin)).mean():.1%}" for margin in MARGINS)
    return f"{len(losses)}", f"{losses.mean():.3f} ± {losses.std(ddof=1):.3f}", *shares
