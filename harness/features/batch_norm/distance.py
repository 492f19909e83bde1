"""Distance of the running statistics of batch norms from those of activations on test images.

For a channel it is the Kullback-Leibler divergence of two normal distributions, from the
activations' to the running one: ½[ln(σ²_run/σ²_act) + (σ²_act + (μ_act − μ_run)²)/σ²_run − 1].
It needs no label.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from harness.base.errors import NotApplicableError
from harness.features.batch_norm.metrics import (
    BATCH_NORM_DISTANCE,
    BATCH_NORM_DISTANCE_MINIMUM,
    BATCH_NORM_MISFIT,
    GROUPS,
)
from harness.inference.devices import FLOAT32_BATCH, batch_size
from harness.inference.engine import named
from harness.inference.moments import channel_moments
from harness.measures.metric import Measurement
from harness.measures.statistics import Z95
from harness.perturb import IDENTITY
from harness.perturb.poses import within_border

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.data import LabelledImages
    from harness.inference import RoleModel
    from harness.measures.metric import Metric
    from harness.perturb.augmentation import Augmentation, UserAugmentation

_PARTS = 4
"""Parts of the images, which tell how far others would move the distance."""


@dataclass(frozen=True, eq=False)
class BatchNormDistances:
    """Distances of a network's batch norms, by name in the order of the layers.

    Attributes:
        n: Number of images.
        of_all: Distance of each layer on all images.
        parts: The same on each of several parts of the images.
    """

    n: int
    of_all: dict[str, float]
    parts: tuple[dict[str, float], ...]


def running_norms(model: nn.Module) -> dict[str, Any]:
    """Return the batch norms with running statistics, by name.

    Raises:
        NotApplicableError: If the network has none.
    """
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_var is not None
    }
    if not layers:
        raise NotApplicableError("the network has no batch norm with running statistics")
    return layers


def find_batch_norm_distances(
    model: RoleModel,
    images: LabelledImages,
    augmentation: Augmentation | UserAugmentation | None = None,
) -> BatchNormDistances:
    """Return the distances of a network's batch norms, from one pass over the images.

    Batch norms that the network does not call, such as those of an auxiliary head, are left out.

    Args:
        model: The network.
        images: The images.
        augmentation: Perturbs the images before the pass; None leaves them clean.

    Raises:
        NotApplicableError: If the model is no network, or calls no batch norm with running
            statistics.
    """
    if not model.provides.layers:
        raise NotApplicableError(
            f"a model of the kind {model.architecture} gives predictions only, no activations"
        )
    layers = running_norms(model.classifier.plain)
    moments = _moments(model, images, augmentation, layers)

    # The counts are zero in a part without images, and everywhere if no batch norm is called.
    parts = [part for part in moments if part[0].any()]
    if not parts:
        raise NotApplicableError("the network calls no batch norm with running statistics")
    return BatchNormDistances(
        len(images),
        _distances(layers, parts),
        tuple(_distances(layers, [part]) for part in parts),
    )


def _moments(
    model: RoleModel,
    images: LabelledImages,
    augmentation: Augmentation | UserAugmentation | None,
    layers: dict[str, Any],
) -> np.ndarray:
    """Return counts, means and variances of the layers' channels, of shape (parts, 3, channels)."""
    classifier = model.classifier
    image_shape = images.pixels.shape[1:]
    size = min(batch_size(image_shape, classifier.device, screening=False), FLOAT32_BATCH)

    draws: tuple[Any, ...] = ()
    if augmentation:
        border = images.domain.border
        drawn = augmentation.draws(*images.pixels.shape[-2:])
        draws = tuple(within_border(draw, border) for draw in drawn)

    def compute() -> np.ndarray:
        inputs = classifier.inputs(images)
        if draws:
            which = np.arange(len(inputs)) % len(draws)
            inputs = replace(inputs, perturbations=draws, which=which)
        with named(inputs):
            return channel_moments(
                classifier.plain, inputs, size, classifier.workers, layers, parts=_PARTS
            )

    channels = sum(len(layer.running_var) for layer in layers.values())
    shape = (_PARTS, 3, channels)
    # The type of the first draw decides whether results may be cached.
    first_draw = draws[0] if draws else IDENTITY

    def cached(images: LabelledImages, _: Any) -> np.ndarray:
        key = ("pass", "batch norms", size, augmentation)
        return classifier.cached(key, images, shape, compute, perturbation=first_draw)

    key = ("batch norms", size, augmentation)
    return classifier.remembered_of(key, images, IDENTITY, cached).astype(np.float64)


def _distances(layers: dict[str, Any], parts: list[np.ndarray]) -> dict[str, float]:
    """Return the distance of each layer that the network called, over several parts of images."""
    counts, means, variances = np.stack(parts, axis=1)

    # Pooled over the parts: the variance of all is the mean variance and that of the means.
    total = np.maximum(counts.sum(axis=0), 1)
    mean = (means * counts).sum(axis=0) / total
    variance = ((variances + np.square(means - mean)) * counts).sum(axis=0) / total

    distances = {}
    start = 0
    for name, layer in layers.items():
        rows = slice(start, start + len(layer.running_var))
        start = rows.stop
        if counts[:, rows].any():
            distances[name] = _distance(layer, mean[rows], variance[rows])
    return distances


def _distance(layer: Any, mean: np.ndarray, variance: np.ndarray) -> float:
    """Return the mean divergence of a layer's channels, in nats."""
    running_mean = layer.running_mean.double().cpu().numpy()
    running_variance = layer.running_var.double().cpu().numpy()

    # The layer divides by the root of the variance and its own addend.
    variance = variance + layer.eps
    running_variance = running_variance + layer.eps

    ratio = (variance + np.square(mean - running_mean)) / running_variance
    divergence = 0.5 * (np.log(running_variance / variance) + ratio - 1)
    return float(divergence.mean())


def batch_norm_distance(distances: BatchNormDistances, group: str) -> Measurement:
    """Return the log of the distance: the mean over the layers of a group.

    The interval, from the parts, is for as many other images. The detail names the farthest layer.

    Raises:
        NotApplicableError: If the network has no layer in the group.
    """
    return _of_group(distances, group, BATCH_NORM_DISTANCE, _mean_log)


def batch_norm_distance_minimum(distances: BatchNormDistances, group: str) -> Measurement:
    """Return the same measurement as a minimum; its detail names the nearest layer."""
    return _of_group(distances, group, BATCH_NORM_DISTANCE_MINIMUM, _mean_log)


def batch_norm_misfit(distances: BatchNormDistances, group: str) -> Measurement:
    """Return the fourth root of the mean distance of a group's layers.

    Interval, detail and errors are those of `batch_norm_distance`.
    """
    return _of_group(distances, group, BATCH_NORM_MISFIT, _fourth_root)


def _mean_log(distances: np.ndarray) -> float:
    return float(np.log(np.maximum(distances, 1e-12)).mean())


def _fourth_root(distances: np.ndarray) -> float:
    # Where the running statistics of a healthy network differ by chance alone, distances are sums
    # of squares. Their fourth roots are nearly normal (Hawkins & Wixley 1986).
    return float(max(distances.mean(), 0) ** 0.25)


def _of_group(
    distances: BatchNormDistances,
    group: str,
    metric: Metric,
    value_of: Callable[[np.ndarray], float],
) -> Measurement:
    """Return a metric of the layers of a group, with an interval and its most extreme layer."""
    groups = np.array_split(list(distances.of_all), len(GROUPS))
    names = [str(name) for name in groups[GROUPS.index(group)]]
    if not names:
        raise NotApplicableError(f"of {len(distances.of_all)} batch norms, none is {group}")

    # A network may call a layer for some images only, so that a part may lack it.
    complete_parts = [{**distances.of_all, **part} for part in distances.parts]
    value, *part_values = (
        value_of(np.array([by_name[name] for name in names]))
        for by_name in (distances.of_all, *complete_parts)
    )
    bias = abs(np.mean(part_values) - value)
    error = bias + Z95 * np.std(part_values) / np.sqrt(len(part_values))
    interval = (max(value - error, metric.range[0]), value + error)

    choose, end = (max, "farthest") if metric.better == "less" else (min, "nearest")
    extreme = choose(names, key=lambda name: distances.of_all[name])
    nats = f"with {distances.of_all[extreme]:.2g} nats"
    detail = f"{group} layers {names[0]} to {names[-1]}, the {end} {extreme} {nats}"
    if len(names) == 1:
        detail = f"layer {extreme} {nats}"
    return Measurement(metric, value, distances.n, interval, detail=detail)
