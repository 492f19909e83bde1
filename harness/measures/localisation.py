"""Grad-CAM mass on the object, its drift when the object moves, and dead maps.

Dead maps and empty masks have no ratio. They are counted and shown, but never enter a mean as 0 or
1. Every number is shown with the uniform baseline, the value of a map that is equal everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.base.errors import InputError, NotApplicableError
from harness.data.rows import parts_of
from harness.measures import selection
from harness.measures.metric import Measurement, Metric, Unit, mean_of, share_of
from harness.measures.selection import ordered
from harness.perturb import moved_masks
from harness.perturb.poses import with_zeros_outside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.inference.attention import Attention


ATTENTION_RATIO = Metric(
    "attention_ratio", Unit.SHARE, better="more", words="share of Grad-CAM mass on the object"
)
ATTENTION_LIFT = Metric(
    "attention_lift",
    Unit.FACTOR,
    better="more",
    words="Grad-CAM mass on the object, uniform map = 1",
)
ATTENTION_DRIFT = Metric(
    "attention_drift",
    Unit.SHARE,
    better="less",
    words="share of Grad-CAM mass that does not move with the image",
)
DEAD_MAPS = Metric(
    "dead_maps", Unit.SHARE, better="less", words="share of Grad-CAM maps that are zero everywhere"
)

PART_BYTES = 8 << 20
"""Bytes of a part of the maps at the images' size.

The computation needs about six times as much.
"""


def attention_ratio(
    attention: Attention,
    masks: np.ndarray,
    *,
    of_class: str | None = None,
    answers: str | None = None,
) -> Measurement:
    """Return the share of a map's mass on the object, in [0, 1], averaged over images.

    This is the relevance mass accuracy of Arras et al. (2022), "CLEVR-XAI", section 3.3, of maps at
    the images' size. The failures are images with less mass on the object than a uniform map.

    Args:
        attention: Grad-CAM maps of N images.
        masks: Masks of the object in the clean images, (N, H, W) bool; they follow the
            perturbation.
        of_class: A true class to select.
        answers: "wrong" selects wrong predictions.

    Raises:
        InputError: The masks have another shape than the images.
        NotApplicableError: No image counts.
    """
    return _on_object(ATTENTION_RATIO, attention, masks, of_class=of_class, answers=answers)


def attention_lift(
    attention: Attention,
    masks: np.ndarray,
    *,
    of_class: str | None = None,
    answers: str | None = None,
) -> Measurement:
    """Return the attention on the object relative to the object's share of the area.

    It is averaged over images, and a uniform map has 1. See `attention_ratio` for all else.
    """
    return _on_object(ATTENTION_LIFT, attention, masks, of_class=of_class, answers=answers)


def attention_drift(moved: Attention, rest: Attention) -> Measurement:
    """Return the share of the attention that does not move with the image, averaged over images.

    It is in [0, 1] and compares the maps of moved images with the moved maps of clean images. The
    distance is 1 - SIM, where SIM is the histogram intersection of two maps of unit mass. That is
    their total variation distance (Bylinskii et al. 2019, "What Do Different Evaluation Metrics
    Tell Us About Saliency Models?", section 4). Each map is of its own predicted class, so that a
    changed prediction counts. The failures are the images with the largest drift.

    Args:
        moved: Grad-CAM maps of moved images.
        rest: Maps of the same layer for the same images, clean.

    Raises:
        InputError: The maps are of other images or of another layer.
        NotApplicableError: All maps are dead.
    """
    if moved.maps.shape != rest.maps.shape or moved.layer != rest.layer:
        raise InputError(
            f"attention drift: maps {moved.maps.shape} of layer {moved.layer} cannot be compared "
            f"with maps {rest.maps.shape} of layer {rest.layer}; expected the same images and layer"
        )
    import torch

    count = len(rest.maps)
    perturbation = with_zeros_outside(moved.predictions.perturbation)
    drift = np.empty(count)
    drift_if_still = np.empty(count)
    counted = np.empty(count, dtype=bool)
    for part in _parts(rest):
        clean_maps = rest.upsampled(part)
        carried_maps = perturbation(torch.from_numpy(clean_maps)[:, None])[:, 0].numpy()
        expected, expected_mass = _unit_mass(carried_maps)
        measured, measured_mass = _unit_mass(moved.upsampled(part))
        still, _ = _unit_mass(clean_maps)

        counted[part] = (expected_mass > 0) & (measured_mass > 0)
        drift[part] = _total_variation(measured, expected)
        drift_if_still[part] = _total_variation(still, expected)
    if not counted.any():
        raise NotApplicableError(
            f"attention drift: all {len(counted)} maps are dead, moved or clean"
        )

    baseline = drift_if_still[counted].mean()
    dead = int((~counted).sum())
    detail = f"maps that do not move at all would drift {baseline:.3f}; {dead} dead maps left out"
    return _averaged(
        ATTENTION_DRIFT, drift, counted, n=count, detail=detail, failures=ordered(counted, -drift)
    )


def dead_maps(attention: Attention) -> Measurement:
    """Return the share of maps that are zero everywhere, in [0, 1].

    In such an image, no feature at the layer supports the prediction. The failures are the images
    with dead maps.
    """
    dead = attention.dead
    count = int(dead.sum())
    wrong = int((dead & ~attention.predictions.correct).sum())
    detail = f"{count} maps of layer {attention.layer}, {wrong} of them with a wrong prediction"
    return share_of(DEAD_MAPS, dead, detail=detail, failures=np.flatnonzero(dead))


def rank_correlation(first: Attention, second: Attention) -> np.ndarray:
    """Return Spearman's rank correlation of the two maps of each image, (N,) in [-1, 1].

    Ties get mean ranks. The correlation is NaN if one of the maps is dead or constant.
    """
    first_ranks = _centered_ranks(first)
    second_ranks = _centered_ranks(second)
    covariance = (first_ranks * second_ranks).sum(axis=1)
    scale = np.sqrt((first_ranks**2).sum(axis=1) * (second_ranks**2).sum(axis=1))
    varying = scale > 0
    return np.where(varying, covariance / np.where(varying, scale, 1), np.nan)


def _centered_ranks(attention: Attention) -> np.ndarray:
    """Return the ranks of each map's values less their mean, (N, values of a map)."""
    from scipy.stats import rankdata

    ranks = rankdata(attention.maps.reshape(len(attention.maps), -1), axis=1)
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True))


def _parts(attention: Attention) -> Iterator[slice]:
    height, width = attention.size
    return parts_of(
        len(attention.maps), height * width * np.dtype(np.float64).itemsize, part_bytes=PART_BYTES
    )


def _on_object(
    metric: Metric,
    attention: Attention,
    masks: np.ndarray,
    *,
    of_class: str | None,
    answers: str | None,
) -> Measurement:
    predictions = attention.predictions
    shape = (len(attention.maps), *attention.size)
    if masks.shape != shape:
        raise InputError(
            f"attention on object: masks are {masks.shape}, the images {shape}; expected one for "
            "each"
        )

    ratio, area = _shares_on_object(attention, masks)
    selected = selection.of_class(predictions, of_class)
    # The number of images does not depend on the model; the number of those that count may.
    n = int(selected.sum())
    if answers == "wrong":
        selected = selected & ~predictions.correct
    counted = selected & ~np.isnan(ratio)
    dead = int((selected & attention.dead).sum())
    empty = int((selected & np.isnan(area)).sum())
    left_out = f"{dead} dead maps and {empty} empty masks left out"
    if not counted.any():
        name = metric.name.replace("_", " ")
        raise NotApplicableError(
            f"{name}: of {n} images {int(selected.sum())} are asked for and none counts, {left_out}"
        )

    lift = ratio / area
    if metric is ATTENTION_RATIO:
        values = ratio
        high = 1.0
        uniform = f"{area[counted].mean():.3f}, the object's share of the area"
    else:
        values = lift
        high = float(1 / area[counted].min())
        uniform = "1"
    detail = f"uniform baseline {uniform}; {int(counted.sum())} maps count, {left_out}"
    failures = ordered(counted & (lift < 1), lift)
    return _averaged(metric, values, counted, n=n, high=high, detail=detail, failures=failures)


def _shares_on_object(attention: Attention, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the object's share of the attention and of the area, (N,) each.

    Both are NaN if the object is out of the image. The share of attention is NaN for a dead map,
    too.
    """
    count = len(attention.maps)
    ratio = np.empty(count)
    area = np.empty(count)
    for part in _parts(attention):
        moved = moved_masks(masks[part], attention.predictions.perturbation)
        share = moved.mean(axis=(1, 2))
        area[part] = np.where(share > 0, share, np.nan)

        maps, mass = _unit_mass(attention.upsampled(part))
        on_object = (maps * moved).sum(axis=(1, 2))
        ratio[part] = np.where((mass > 0) & (share > 0), on_object, np.nan)
    return ratio, area


def _averaged(metric: Metric, values: np.ndarray, counted: np.ndarray, **more: Any) -> Measurement:
    return mean_of(metric, values[counted], ddof=1, each=None, counted=int(counted.sum()), **more)


def _unit_mass(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return maps (N, H, W) divided by their mass, and the mass (N,); a dead map stays zero."""
    mass = maps.sum(axis=(1, 2), dtype=np.float64)
    divisor = np.where(mass > 0, mass, 1)
    return maps / divisor[:, None, None], mass


def _total_variation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the total variation distance of maps with unit mass, (N,)."""
    return np.asarray(1 - np.minimum(first, second).sum(axis=(1, 2)))
