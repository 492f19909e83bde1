"""Grad-CAM mass on the object, its drift when the object moves, and dead maps.

Dead maps and empty masks have no ratio. They are counted and shown, but never enter a mean as 0 or 1. Every number is
shown with the uniform baseline, the value of a map that is equal everywhere.
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
"""Bytes of a part of the maps at the images' size; the computation needs about six times as much."""


def attention_ratio(
    attention: Attention,
    masks: np.ndarray,
    *,
    of_class: str | None = None,
    answers: str | None = None,
) -> Measurement:
    """Return the share of a map's mass on the object, in [0, 1], averaged over images.

    This is the relevance mass accuracy of Arras et al. (2022), "CLEVR-XAI", section 3.3, of maps at the images' size.
    `masks` are those of the clean images, (N, H, W) bool; they follow the perturbation. `of_class` selects a true
    class, and `answers="wrong"` wrong predictions. The failures are images with less mass on the object than a uniform
    map. Raises `NotApplicableError` if no image counts.
    """
    return _on_object(ATTENTION_RATIO, attention, masks, of_class=of_class, answers=answers)


def attention_lift(
    attention: Attention,
    masks: np.ndarray,
    *,
    of_class: str | None = None,
    answers: str | None = None,
) -> Measurement:
    """Return the ratio of attention on the object to the object's share of the area, averaged over images.

    A uniform map has 1. See `attention_ratio` for all else.
    """
    return _on_object(ATTENTION_LIFT, attention, masks, of_class=of_class, answers=answers)


def attention_drift(moved: Attention, rest: Attention) -> Measurement:
    """Return the share of the attention that does not move with the image, in [0, 1], averaged over images.

    It compares the maps of moved images with the moved maps of clean images. The distance is 1 - SIM, where SIM is the
    histogram intersection of two maps of unit mass. That is their total variation distance (Bylinskii et al. 2019,
    "What Do Different Evaluation Metrics Tell Us About Saliency Models?", section 4). Each map is of its own predicted
    class, so a changed prediction counts. The failures are the images with the largest drift.
    """
    if moved.maps.shape != rest.maps.shape or moved.layer != rest.layer:
        raise InputError(
            f"attention drift: maps {moved.maps.shape} of layer {moved.layer} cannot be compared with maps "
            f"{rest.maps.shape} of layer {rest.layer}; expected the same images and layer"
        )
    import torch

    count = len(rest.maps)
    perturbation = with_zeros_outside(moved.predictions.perturbation)
    drift, unmoved, counted = np.empty(count), np.empty(count), np.empty(count, dtype=bool)
    for part in _parts(rest):
        still = rest.upsampled(part)
        carried = perturbation(torch.from_numpy(still)[:, None])[:, 0].numpy()
        target, mass = _unit_mass(carried)
        found, found_mass = _unit_mass(moved.upsampled(part))
        counted[part] = (mass > 0) & (found_mass > 0)
        drift[part] = 1 - np.minimum(found, target).sum(axis=(1, 2))
        unmoved[part] = 1 - np.minimum(_unit_mass(still)[0], target).sum(axis=(1, 2))
    if not counted.any():
        raise NotApplicableError(
            f"attention drift: all {len(counted)} maps are dead, moved or clean"
        )
    still_drift, dead = unmoved[counted].mean(), int((~counted).sum())
    detail = (
        f"maps that do not move at all would drift {still_drift:.3f}; {dead} dead maps left out"
    )
    return _averaged(
        ATTENTION_DRIFT, drift, counted, n=count, detail=detail, failures=ordered(counted, -drift)
    )


def dead_maps(attention: Attention) -> Measurement:
    """Return the share of maps that are zero everywhere, in [0, 1]: no feature at the layer supports the prediction.

    The failures are the images with dead maps.
    """
    dead = attention.dead
    wrong = int((dead & ~attention.predictions.correct).sum())
    detail = f"{int(dead.sum())} maps of layer {attention.layer}, {wrong} of them with a wrong prediction"
    return share_of(DEAD_MAPS, dead, detail=detail, failures=np.flatnonzero(dead))


def rank_correlation(first: Attention, second: Attention) -> np.ndarray:
    """Return Spearman's rank correlation of the two maps of each image, (N,) in [-1, 1]; ties get mean ranks.

    It is NaN if one of the maps is dead or constant.
    """
    from scipy.stats import rankdata

    ranks = [
        rankdata(attention.maps.reshape(len(attention.maps), -1), axis=1)
        for attention in (first, second)
    ]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.where(scale > 0, (one * other).sum(axis=1) / np.where(scale > 0, scale, 1), np.nan)


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
    predictions, count, size = attention.predictions, len(attention.maps), attention.size
    if masks.shape != (count, *size):
        found = f"masks are {masks.shape}, the images {(count, *size)}"
        raise InputError(f"attention on object: {found}; expected one for each")
    # Both shares are NaN if the object is out of the image, and that of attention also for a dead map.
    ratio, area = np.empty(count), np.empty(count)
    for part in _parts(attention):
        moved = moved_masks(masks[part], predictions.perturbation)
        share = moved.mean(axis=(1, 2))
        area[part] = np.where(share > 0, share, np.nan)
        unit, mass = _unit_mass(attention.upsampled(part))
        ratio[part] = np.where((mass > 0) & (share > 0), (unit * moved).sum(axis=(1, 2)), np.nan)
    chosen = selection.of_class(predictions, of_class)
    # The number of images does not depend on the model; the number that count may.
    n = int(chosen.sum())
    if answers == "wrong":
        chosen = chosen & ~predictions.correct
    counted = chosen & ~np.isnan(ratio)
    dead, empty = int((chosen & attention.dead).sum()), int((chosen & np.isnan(area)).sum())
    left_out = f"{dead} dead maps and {empty} empty masks left out"
    if not counted.any():
        asked = f"{metric.name.replace('_', ' ')}: of {n} images {int(chosen.sum())} are asked for"
        raise NotApplicableError(f"{asked} and none counts, {left_out}")
    lift = ratio / area
    is_ratio = metric is ATTENTION_RATIO
    values, high = (ratio, 1.0) if is_ratio else (lift, float(1 / area[counted].min()))
    uniform = f"{area[counted].mean():.3f}, the object's share of the area" if is_ratio else "1"
    detail = f"uniform baseline {uniform}; {int(counted.sum())} maps count, {left_out}"
    failures = ordered(counted & (lift < 1), lift)
    return _averaged(metric, values, counted, n=n, high=high, detail=detail, failures=failures)


def _averaged(metric: Metric, values: np.ndarray, counted: np.ndarray, **more: Any) -> Measurement:
    return mean_of(metric, values[counted], ddof=1, each=None, counted=int(counted.sum()), **more)


def _unit_mass(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The maps (N, H, W) divided by their mass, and the mass (N,); a dead map stays zero.
    mass = maps.sum(axis=(1, 2), dtype=np.float64)
    return maps / np.where(mass > 0, mass, 1)[:, None, None], mass
