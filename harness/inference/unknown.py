"""Predictions for images of no class: made from the data's images, or from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.base.errors import InputError, NotApplicableError
from harness.perturb.unfamiliar import UNFAMILIAR, Unfamiliar

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference.predictions import Predictions
    from harness.inference.role import RoleModel


def under_unknown(
    model: RoleModel, images: LabelledImages, kind: str | None, elsewhere: LabelledImages | None
) -> Predictions:
    """Predict images of no class: a kind of `UNFAMILIAR` made from these images, or those from `elsewhere`.

    Raises `NotApplicableError` if no images from elsewhere are named, and `InputError` for a check without a kind.
    """
    if kind is None:
        raise InputError(f"unknown: the check names no images; expected one of {', '.join(UNFAMILIAR)}, elsewhere")
    if kind in UNFAMILIAR:
        return model.predict(images, Unfamiliar(kind))
    if elsewhere is None:
        raise NotApplicableError("no images from elsewhere are named; name some with the setting unknown")
    return model.predict(elsewhere)
