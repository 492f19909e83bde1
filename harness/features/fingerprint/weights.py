"""Statistics of a network's weights: they follow from the recipe of its training, and hardly from its seed.

Unterthiner et al. (2020), "Predicting Neural Network Accuracy from Weights", predict the accuracy of a network from
such statistics. Kosson et al. (2023), "Rotational Equilibrium", show that learning rate and weight decay set the norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.base.errors import NotApplicableError
from harness.measures.panel.statistics import ModelStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from harness.inference import RoleModel

KIND = "weights"
"""The kind of these statistics in a file of panel predictions."""
_TINY = 1e-12
"""Smallest norm, mean and singular value with a logarithm, for weights that are all 0."""
_EPSILON = 1e-5
"""Addend to running variances before the logarithm: the one with which batch norms divide by default."""


class StatisticKind(StrEnum):
    """Kinds of statistics; each is the logarithm of a number above 0."""

    NORM = "norm"
    SPECTRAL_NORM = "spectral norm"
    RANK = "effective rank"
    SCALE = "mean scale"
    VARIANCE = "running variance"


@dataclass(frozen=True)
class WeightStatistic:
    """One statistic of a tensor of a network, which has this name and shape."""

    kind: StatisticKind
    tensor: str
    shape: tuple[int, ...]
    value: float

    @property
    def name(self) -> str:
        """Return a name that is the same in networks of one architecture only."""
        return f"{self.kind} of {self.tensor} {'x'.join(map(str, self.shape))}"


def find_weight_statistics(model: RoleModel) -> tuple[WeightStatistic, ...]:
    """Return the statistics of a model's weights, in the order of its tensors.

    Raises `NotApplicableError` for a model that is no network, and for a network without weights.
    """
    if not model.provides.layers:
        raise NotApplicableError(f"a model of the kind {model.architecture} gives predictions only, no weights")
    classifier = model.classifier
    statistics: tuple[WeightStatistic, ...] = classifier.remembered(
        "weight statistics", lambda: statistics_of(classifier.plain)
    )
    if not statistics:
        raise NotApplicableError("the network has no weights")
    return statistics


def as_model_statistics(statistics: tuple[WeightStatistic, ...]) -> ModelStatistics:
    """Return the statistics as a panel records them."""
    names = tuple(statistic.name for statistic in statistics)
    return ModelStatistics(KIND, names, np.array([statistic.value for statistic in statistics]))


@torch.no_grad()
def statistics_of(network: nn.Module) -> tuple[WeightStatistic, ...]:
    """Return the statistics of a network's parameters and running variances.

    A weight of two or more dimensions has a norm, a spectral norm and an effective rank. A scale of one dimension, as
    in batch, layer and group norms, has a mean of absolute values. Biases have none.
    """
    statistics: list[WeightStatistic] = []
    for name, tensor in network.named_parameters():
        if tensor.ndim > 1:
            statistics += _statistics_of_weight(name, tensor)
        elif tensor.ndim == 1 and not name.endswith("bias"):
            scale = _log(float(tensor.double().abs().mean()))
            statistics.append(WeightStatistic(StatisticKind.SCALE, name, tuple(tensor.shape), scale))

    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            variance = float((buffer.double() + _EPSILON).log().mean())
            statistics.append(WeightStatistic(StatisticKind.VARIANCE, name, tuple(buffer.shape), variance))
    return tuple(statistics)


def _statistics_of_weight(name: str, tensor: torch.Tensor) -> Iterator[WeightStatistic]:
    shape = tuple(tensor.shape)
    norm = float(tensor.double().norm())
    yield WeightStatistic(StatisticKind.NORM, name, shape, _log(norm))

    # A convolution is a matrix with a row for each output channel; a vector has no rank to tell.
    weight = tensor.squeeze()
    if weight.ndim > 1:
        squares = _squared_singular_values(weight.reshape(len(weight), -1))
        yield WeightStatistic(StatisticKind.SPECTRAL_NORM, name, shape, _log(math.sqrt(squares.max())))
        yield WeightStatistic(StatisticKind.RANK, name, shape, _entropy(squares))


def _squared_singular_values(matrix: torch.Tensor) -> np.ndarray:
    """Return the squared singular values of a matrix, as eigenvalues of the smaller of its two Gram matrices.

    That takes a quarter of the time of a singular value decomposition of a large matrix. The smallest values are
    inexact, but they hardly count in a sum.
    """
    matrix = matrix.cpu().float()
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    eigenvalues = np.linalg.eigvalsh(gram.double().numpy())
    return np.asarray(np.maximum(eigenvalues, 0.0))


def _entropy(squares: np.ndarray) -> float:
    """Return the logarithm of the effective rank: the entropy of the normalized values.

    Roy & Vetterli (2007), "The effective rank", define it for singular values; these are their squares.
    """
    total = float(squares.sum())
    if total <= _TINY:
        return 0.0
    shares = squares[squares > 0] / total
    return float(-(shares * np.log(shares)).sum())


def _log(value: float) -> float:
    return math.log(max(value, _TINY))
