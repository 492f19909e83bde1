"""Grad-CAM mass of a model on the object."""

from __future__ import annotations

import numpy as np

from harness.base.records import record
from harness.data.rows import parts_of
from harness.measures.localisation import PART_BYTES
from harness.run.overview.part import Part, Subject


@record
class OnObject:
    """Grad-CAM mass on the object, of one class or all: mean `ratio` and `lift` over `n` images.

    `ratio` is the share of a map's mass on the object, `uniform` what a uniform map would have,
    and `lift` the mean of their quotient. Dead maps and empty masks are left out.
    """

    ratio: float
    uniform: float
    lift: float
    n: int


@record
class Looking:
    """Attention on the object, by class in the classes' order and of all; nothing where there is no attention."""

    on_object: tuple[OnObject | None, ...] = ()
    on_object_overall: OnObject | None = None


def _looking(subject: Subject) -> Looking:
    """Measure attention on the object where the model has any and the object is known."""
    from harness.base.errors import NotApplicableError
    from harness.data.images import object_masks

    sample = subject.sample
    try:
        masks, attention = object_masks(sample), subject.model.attend(sample)
    except NotApplicableError:
        return Looking()
    area = masks.mean(axis=(1, 2))
    mass, inside = np.empty((2, len(masks)), dtype=np.float32)
    for part in parts_of(len(masks), masks[0].size * mass.itemsize, part_bytes=PART_BYTES):
        maps = attention.upsampled(part)
        mass[part], inside[part] = maps.sum(axis=(1, 2)), np.where(masks[part], maps, 0).sum(axis=(1, 2))
    known = (mass > 0) & (area > 0)
    ratio = inside / np.where(known, mass, 1)

    def mean_of(chosen: np.ndarray) -> OnObject | None:
        if not chosen.any():
            return None
        shares, uniform = ratio[chosen].astype(np.float64), area[chosen]
        return OnObject(
            float(shares.mean()), float(uniform.mean()), float((shares / uniform).mean()), int(chosen.sum())
        )

    labels = sample.labels.numpy()
    return Looking(tuple(mean_of(known & (labels == label)) for label in range(len(sample.classes))), mean_of(known))


LOOKING = Part(Looking, _looking, "attention on the object", 3)
