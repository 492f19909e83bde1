"""Statistics of models themselves, such as norms of their weights.

They are those of one model, and those of the models of a panel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import NotApplicableError, PanelError, some_of
from harness.measures.statistics import moderated_variances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LEAST_STD = 0.1
"""Smallest standard deviation of a logarithm of a probability, in nats.

Smaller ones of few models are chance.
"""
_PREFIX = "statistics."
_NAMES = ".names"
_VALUES = ".values"


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Statistics of one model: `values` (S,) float64 by `names`.

    A feature chooses the name of their `kind`.
    """

    kind: str
    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class PanelStatistics:
    """Statistics of the models of a panel: `values` (K, S) float64, a row for each model."""

    names: tuple[str, ...]
    values: np.ndarray

    def of(self, models: Sequence[int], names: tuple[str, ...]) -> np.ndarray:
        """Return the values of the models at these positions, (models, S), in the order of `names`.

        Raises `NotApplicableError` if a model with statistics by these names has other ones.
        """
        missing = [name for name in self.names if name not in names]
        added = [name for name in names if name not in self.names]
        if missing or added:
            facts = []
            if missing:
                facts.append(f"it lacks {some_of(missing)}")
            if added:
                facts.append(f"it has {some_of(added)}")
            raise NotApplicableError(
                f"the model differs from the reference models: {' and '.join(facts)}"
            )
        columns = [self.names.index(name) for name in names]
        return np.asarray(self.values[np.ix_(models, columns)])

    def in_order(self, models: Sequence[int]) -> PanelStatistics:
        """Return the statistics with the models in another order.

        `models` are their positions in this one.
        """
        return replace(self, values=self.values[list(models)])


def moderated_prediction(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of a prediction for one more model, (N,) each.

    The N variances share strength, see `moderated_variances`.

    Args:
        logs: Logarithms of probabilities of K models, at least two, (K, N).
    """
    count = len(logs)
    variances = moderated_variances(logs.var(axis=0, ddof=1), df=count - 1)
    variances = np.maximum(variances, _LEAST_STD**2)
    return logs.mean(axis=0), np.sqrt(variances * (1 + 1 / count))


def combined_statistics(
    recorded: Sequence[Sequence[ModelStatistics]],
) -> dict[str, PanelStatistics]:
    """Return the statistics of a panel by kind, from those of each model.

    A kind that a model lacks, or has by other names, is left out.
    """
    if not recorded:
        return {}
    combined = {}
    for first in recorded[0]:
        alike = []
        for of_model in recorded:
            alike += [
                statistics
                for statistics in of_model
                if (statistics.kind, statistics.names) == (first.kind, first.names)
            ]
        if len(alike) == len(recorded):
            values = np.stack([statistics.values for statistics in alike])
            combined[first.kind] = PanelStatistics(first.names, values)
    return combined


def tables_of(statistics: Mapping[str, PanelStatistics]) -> dict[str, np.ndarray]:
    """Return the tables of a file of panel predictions."""
    tables = {}
    for kind, of_kind in sorted(statistics.items()):
        names = json.dumps(of_kind.names)
        tables[f"{_PREFIX}{kind}{_NAMES}"] = np.frombuffer(names.encode(), dtype=np.uint8)
        tables[f"{_PREFIX}{kind}{_VALUES}"] = of_kind.values.astype("<f8")
    return tables


def statistics_in(
    tables: Mapping[str, np.ndarray], *, models: int, path: Path
) -> dict[str, PanelStatistics]:
    """Return the statistics in the tables of a file, by kind.

    Raises `PanelError` for tables of another form.
    """
    named = [name for name in tables if name.startswith(_PREFIX) and name.endswith(_NAMES)]
    kinds = [name.removeprefix(_PREFIX).removesuffix(_NAMES) for name in named]
    return {kind: _statistics_of_kind(tables, kind, models=models, path=path) for kind in kinds}


def _statistics_of_kind(
    tables: Mapping[str, np.ndarray], kind: str, *, models: int, path: Path
) -> PanelStatistics:
    names = _names_in(tables[f"{_PREFIX}{kind}{_NAMES}"])
    values = tables.get(f"{_PREFIX}{kind}{_VALUES}")
    refusal = PanelError(
        f"{path}: expected statistics {kind!r} of {models} models, finite numbers of 64 bits"
    )
    if names is None or values is None:
        raise refusal
    if values.shape != (models, len(names)) or values.dtype != np.dtype("<f8"):
        raise refusal
    if not np.isfinite(values).all():
        raise refusal
    return PanelStatistics(names, values)


def _names_in(table: np.ndarray) -> tuple[str, ...] | None:
    """Return the different names in a table; None for a table of something else."""
    try:
        names = json.loads(table.tobytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if len(set(names)) < len(names):
        return None
    return tuple(names)
