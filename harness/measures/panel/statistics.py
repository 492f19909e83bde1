"""Statistics of models themselves, such as norms of their weights: of one model, and of the models of a panel."""

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
"""Smallest standard deviation of a logarithm of a probability, in nats: smaller ones of few models are chance."""
_PREFIX, _NAMES, _VALUES = "statistics.", ".names", ".values"


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """Statistics of one model: `values` (S,) float64 by `names`. A feature chooses the name of their `kind`."""

    kind: str
    names: tuple[str, ...]
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class PanelStatistics:
    """Statistics of the models of a panel: `values` (K, S) float64, a row for each model, by `names`."""

    names: tuple[str, ...]
    values: np.ndarray

    def of(self, models: Sequence[int], names: tuple[str, ...]) -> np.ndarray:
        """Return the values of the models at these positions, (models, S), in the order of `names`.

        Raises `NotApplicableError` if a model with statistics by these names has other ones.
        """
        missing = [name for name in self.names if name not in names]
        added = [name for name in names if name not in self.names]
        if missing or added:
            facts = [
                f"it lacks {some_of(missing)}" if missing else "",
                f"it has {some_of(added)}" if added else "",
            ]
            raise NotApplicableError(
                f"the model differs from the reference models: {' and '.join(filter(None, facts))}"
            )
        columns = [self.names.index(name) for name in names]
        return np.asarray(self.values[np.ix_(models, columns)])

    def in_order(self, models: Sequence[int]) -> PanelStatistics:
        """Return the statistics with the models in another order, by their positions in this one."""
        return replace(self, values=self.values[list(models)])


def moderated_prediction(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of a prediction for one more model, (N,) each.

    `logs`, (K, N), are logarithms of probabilities of K models, at least two. They share strength about their
    variances, see `moderated_variances`.
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
    by_kind = [{statistics.kind: statistics for statistics in of_model} for of_model in recorded]
    combined = {}
    for kind, first in by_kind[0].items():
        of_kind = [statistics[kind] for statistics in by_kind if kind in statistics]
        if len(of_kind) == len(recorded) and all(
            statistics.names == first.names for statistics in of_kind
        ):
            values = np.stack([statistics.values for statistics in of_kind])
            combined[kind] = PanelStatistics(first.names, values)
    return combined


def tables_of(statistics: Mapping[str, PanelStatistics]) -> dict[str, np.ndarray]:
    """Return the tables of a file of panel predictions."""
    tables = {}
    for kind, of_kind in sorted(statistics.items()):
        tables[f"{_PREFIX}{kind}{_NAMES}"] = np.frombuffer(
            json.dumps(of_kind.names).encode(), dtype=np.uint8
        )
        tables[f"{_PREFIX}{kind}{_VALUES}"] = of_kind.values.astype("<f8")
    return tables


def statistics_in(
    tables: Mapping[str, np.ndarray], *, models: int, path: Path
) -> dict[str, PanelStatistics]:
    """Return the statistics in the tables of a file; raises `PanelError` for tables of another form."""
    named = [name for name in tables if name.startswith(_PREFIX) and name.endswith(_NAMES)]
    kinds = [name.removeprefix(_PREFIX).removesuffix(_NAMES) for name in named]
    return {kind: _statistics_of_kind(tables, kind, models=models, path=path) for kind in kinds}


def _statistics_of_kind(
    tables: Mapping[str, np.ndarray], kind: str, *, models: int, path: Path
) -> PanelStatistics:
    values = tables.get(f"{_PREFIX}{kind}{_VALUES}")
    try:
        names = json.loads(tables[f"{_PREFIX}{kind}{_NAMES}"].tobytes())
    except (ValueError, RecursionError):
        names = None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    is_list = is_list and len(set(names)) == len(names)
    shape = (models, len(names)) if is_list else None
    if (
        values is None
        or values.shape != shape
        or values.dtype != np.dtype("<f8")
        or not np.isfinite(values).all()
    ):
        raise PanelError(
            f"{path}: expected statistics {kind!r} of {models} models, finite numbers of 64 bits"
        )
    return PanelStatistics(tuple(names), values)
