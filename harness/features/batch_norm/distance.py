"""Distance of the running statistics of batch norms from the statistics of their activations on test images.

For a channel it is the Kullback-Leibler divergence of two normal distributions, from the activations' to the running
one: ½[ln(σ²_run/σ²_act) + (σ²_act + (μ_act − μ_run)²)/σ²_run − 1]. It needs no label.
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
    """Distances of a network's layers in their order, by name, on n images: of all, and of each of some `parts`."""

    n: int
    of_all: dict[str, float]
    parts: tuple[dict[str, float], ...]


def running_norms(model: nn.Module) -> dict[str, Any]:
    """Return the batch norms with running statistics by name; raises `NotApplicableError` without any."""
    found = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_var is not None
    }
    if not found:
        raise NotApplicableError("the network has no batch norm with running statistics")
    return found


def find_batch_norm_distances(
    model: RoleModel,
    images: LabelledImages,
    augmentation: Augmentation | UserAugmentation | None = None,
) -> BatchNormDistances:
    """Return the distances of a network's batch norms by one pass over images, clean or under an augmentation.

    Batch norms that the network does not call, such as those of an auxiliary head, are left out. Raises
    `NotApplicableError` for a model that is no network, and for one that calls no batch norm with running statistics.
    """
    if not model.provides.layers:
        raise NotApplicableError(
            f"a model of the kind {model.architecture} gives predictions only, no activations"
        )
    classifier = model.classifier
    layers = running_norms(classifier.plain)
    channels = [len(layer.running_var) for layer in layers.values()]
    size = min(
        batch_size(images.pixels.shape[1:], classifier.device, screening=False), FLOAT32_BATCH
    )

    border = images.domain.border
    drawn = augmentation.draws(*images.pixels.shape[-2:]) if augmentation else ()
    draws = tuple(within_border(draw, border) for draw in drawn)
    first_draw = draws[0] if draws else IDENTITY  # Its type decides whether results may be cached.

    def compute() -> np.ndarray:
        inputs = classifier.inputs(images)
        if draws:
            inputs = replace(inputs, perturbations=draws, which=np.arange(len(inputs)) % len(draws))
        with named(inputs):
            return channel_moments(
                classifier.plain, inputs, size, classifier.workers, layers, parts=_PARTS
            )

    shape = (_PARTS, 3, sum(channels))
    found = classifier.remembered_of(
        ("batch norms", size, augmentation),
        images,
        IDENTITY,
        lambda images, _: classifier.cached(
            ("pass", "batch norms", size, augmentation),
            images,
            shape,
            compute,
            perturbation=first_draw,
        ),
    ).astype(np.float64)
    if not (parts := [part for part in found if part[0].any()]):
        raise NotApplicableError("the network calls no batch norm with running statistics")

    def distances(some: list[np.ndarray]) -> dict[str, float]:
        counts, means, variances = np.stack(some, axis=1)
        total = np.maximum(counts.sum(axis=0), 1)
        mean = (means * counts).sum(axis=0) / total
        variance = ((variances + np.square(means - mean)) * counts).sum(axis=0) / total
        at, each = 0, {}
        for (name, layer), width in zip(layers.items(), channels, strict=True):
            rows = slice(at, at := at + width)
            if counts[:, rows].any():
                each[name] = _distance(layer, mean[rows], variance[rows])
        return each

    return BatchNormDistances(
        len(images), distances(parts), tuple(distances([part]) for part in parts)
    )


def _distance(layer: Any, mean: np.ndarray, variance: np.ndarray) -> float:
    # With the layer's own addend: it divides by the root of the variance and that.
    running_mean, running = (
        each.double().cpu().numpy() for each in (layer.running_mean, layer.running_var)
    )
    variance, running = variance + layer.eps, running + layer.eps
    ratio = (variance + np.square(mean - running_mean)) / running
    return float(0.5 * (np.log(running / variance) + ratio - 1).mean())


def batch_norm_distance(found: BatchNormDistances, group: str) -> Measurement:
    """Return the log of the distance, a mean over the channels of a layer and over the logs of a group's layers.

    The interval is for other images, as many or fewer, by the parts. The detail names the farthest layer. Raises
    `NotApplicableError` for an empty group.
    """
    return _of_group(found, group, BATCH_NORM_DISTANCE, _log)


def batch_norm_distance_minimum(found: BatchNormDistances, group: str) -> Measurement:
    """Return the same measurement as a minimum; its detail names the nearest layer."""
    return _of_group(found, group, BATCH_NORM_DISTANCE_MINIMUM, _log)


def batch_norm_misfit(found: BatchNormDistances, group: str) -> Measurement:
    """Return the fourth root of the mean distance of a group's layers.

    Where the running statistics of a healthy network differ by chance alone, distances are sums of squares. Their fourth
    roots are nearly normal (Hawkins & Wixley 1986). Interval, detail and errors are those of `batch_norm_distance`.
    """
    return _of_group(found, group, BATCH_NORM_MISFIT, lambda each: max(each.mean(), 0) ** 0.25)


def _log(distances: np.ndarray) -> float:
    return float(np.log(np.maximum(distances, 1e-12)).mean())


def _of_group(
    found: BatchNormDistances, group: str, metric: Metric, value_of: Callable[[np.ndarray], float]
) -> Measurement:
    names = [
        str(name) for name in np.array_split(list(found.of_all), len(GROUPS))[GROUPS.index(group)]
    ]
    if not names:
        raise NotApplicableError(f"of {len(found.of_all)} batch norms, none is {group}")
    # A network may call a layer for some images only, so a part may lack it.
    value, *parts = (
        float(value_of(np.array([distances.get(name, found.of_all[name]) for name in names])))
        for distances in (found.of_all, *found.parts)
    )
    error = abs(np.mean(parts) - value) + Z95 * np.std(parts) / np.sqrt(len(parts))
    choose, end = (max, "farthest") if metric.better == "less" else (min, "nearest")
    most = choose(names, key=lambda name: found.of_all[name])
    nats = f"with {found.of_all[most]:.2g} nats"
    detail = f"{group} layers {names[0]} to {names[-1]}, the {end} {most} {nats}"
    detail = f"layer {most} {nats}" if len(names) == 1 else detail
    return Measurement(
        metric, value, found.n, (max(value - error, metric.range[0]), value + error), detail=detail
    )
