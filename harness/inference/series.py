"""Predictions of the same images under several perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.perturb.corruptions import ALL, SEVERITIES, SHIPPED, Corruption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.data import LabelledImages
    from harness.inference.predictions import Predictions
    from harness.inference.role import RoleModel
    from harness.perturb import Perturbation


def along(model: RoleModel, images: LabelledImages, *perturbations: Perturbation) -> tuple[Predictions, ...]:
    """Predict the images as they are, and then under each perturbation, in this order."""
    return (model.predict(images), *under_each(model, images, perturbations))


def under_each(
    model: RoleModel, images: LabelledImages, perturbations: Iterable[Perturbation]
) -> tuple[Predictions, ...]:
    """Predict the images under each perturbation, in this order."""
    return tuple(model.predict(images, perturbation) for perturbation in perturbations)


def under_corruption(model: RoleModel, images: LabelledImages, name: str) -> dict[str, tuple[Predictions, ...]]:
    """Predict the images as they are and at severities 1 to 5, in this order, for one corruption or for `ALL`.

    Raises `ValueError` for an unknown name.
    """
    return {
        each: (model.predict(images), *(model.predict(images, Corruption(each, severity)) for severity in SEVERITIES))
        for each in (SHIPPED if name == ALL else (name,))
    }
