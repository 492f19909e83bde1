"""Statistics of a network's weights, which follow from its recipe and hardly from its seed.

Unterthiner et al. (2020), "Predicting Neural Network Accuracy from Weights", predict the accuracy
of a network from such statistics. Kosson et al. (2023), "Rotational Equilibrium", show that
learning rate and weight decay set the norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.parameter import is_lazy

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
"""Addend to running variances before the logarithm: the default of batch norms."""


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

    Raises:
        NotApplicableError: The model is no network, or a network without weights.
    """
    if not model.provides.layers:
        raise NotApplicableError(
            f"a model of the kind {model.architecture} gives predictions only, no weights"
        )
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

    A weight of two or more dimensions has a norm. If it is more than a vector, it also has a
    spectral norm and an effective rank. A scale of one dimension, as in batch, layer and group
    norms, has a mean of absolute values. Biases, empty tensors and tensors of integers have none.

    Raises:
        NotApplicableError: A statistic is not finite, or the values of a tensor cannot be read.
    """
    statistics: list[WeightStatistic] = []
    for name, tensor in network.named_parameters():
        values = _values_of(name, tensor)
        if values is None:
            continue
        if values.ndim > 1:
            statistics += _statistics_of_weight(name, values)
        elif values.ndim == 1 and "bias" not in name.rpartition(".")[2]:
            scale = _log(float(values.abs().mean()))
            statistics.append(
                WeightStatistic(StatisticKind.SCALE, name, tuple(values.shape), scale)
            )

    for name, buffer in network.named_buffers():
        if not name.endswith("running_var"):
            continue
        values = _values_of(name, buffer)
        if values is not None:
            variance = float((values.clamp_min(0.0) + _EPSILON).log().mean())
            statistics.append(
                WeightStatistic(StatisticKind.VARIANCE, name, tuple(values.shape), variance)
            )

    for statistic in statistics:
        if not math.isfinite(statistic.value):
            raise NotApplicableError(f"the {statistic.name} is not finite")
    return tuple(statistics)


def _values_of(name: str, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the values of a tensor as numbers of 64 bits, of complex ones the absolute values.

    None for an empty tensor and for one of integers.

    Raises:
        NotApplicableError: No operation of dense tensors reads the values, such as sparse ones.
    """
    if is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided:
        raise NotApplicableError(
            f"the values of {name} cannot be read: it is sparse, or has none yet"
        )
    if tensor.numel() == 0 or not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    # The CPU has numbers of 64 bits; an accelerator may have none.
    on_cpu = tensor.detach().cpu()
    return on_cpu.abs().double() if on_cpu.is_complex() else on_cpu.double()


def _statistics_of_weight(name: str, values: torch.Tensor) -> Iterator[WeightStatistic]:
    shape = tuple(values.shape)
    yield WeightStatistic(StatisticKind.NORM, name, shape, _log(float(values.norm())))

    # Rows are the first dimension: the output channels of a convolution. Leading dimensions of 1,
    # as those of positional embeddings, do not count.
    first = next((dimension for dimension, size in enumerate(shape) if size > 1), 0)
    matrix = values.reshape(shape[first], -1) if first else values.flatten(1)
    if min(matrix.shape) > 1:
        squares = _squared_singular_values(matrix)
        yield WeightStatistic(
            StatisticKind.SPECTRAL_NORM, name, shape, _log(math.sqrt(squares.max()))
        )
        yield WeightStatistic(StatisticKind.RANK, name, shape, _entropy(squares))


def _squared_singular_values(matrix: torch.Tensor) -> np.ndarray:
    """Return the squared singular values of a matrix, or one NaN if they overflow."""
    # They are the eigenvalues of the smaller of the two Gram matrices. These take a quarter of the
    # time of a singular value decomposition of a large matrix. The smallest values are inexact, but
    # they hardly count in a sum.
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    if not torch.isfinite(gram).all():
        return np.array([math.nan])
    return np.asarray(np.maximum(np.linalg.eigvalsh(gram.numpy()), 0.0))


def _entropy(squares: np.ndarray) -> float:
    """Return the logarithm of the effective rank: the entropy of the normalized values.

    Roy & Vetterli (2007), "The effective rank", define it for singular values. These are their
    squares.
    """
    total = float(squares.sum())
    if total <= _TINY:
        return 0.0
    shares = squares[squares > 0] / total
    return float(-(shares * np.log(shares)).sum())


def _log(value: float) -> float:
    return math.log(max(value, _TINY))
