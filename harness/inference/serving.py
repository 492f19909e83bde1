"""A model's predictions for images as another pipeline serves them, and for images of no class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from harness.base.errors import InputError, NotApplicableError
from harness.data.serving import Serving, serving_of
from harness.data.stages import Normalise
from harness.perturb.unfamiliar import UNFAMILIAR, Unfamiliar

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.data.pipeline import Pipeline
    from harness.inference.predictions import Predictions
    from harness.inference.role import RoleModel


_DIGITS = 7
"""Significant digits that recover the written form of a normalization from float32."""


def model_serving(model: RoleModel, images: LabelledImages) -> Serving:
    """Return images with their reference pipeline, which ends in the model's normalization."""
    return serving_of(images, normalization_of(model))


def served_predictions(model: RoleModel, serving: Serving, pipeline: Pipeline) -> Predictions:
    """Return predictions for images from a pipeline.

    The images of the reference pipeline are attached.
    """
    return replace(model.predict(serving.by(pipeline)), images=serving.images)


def normalization_of(model: RoleModel) -> Normalise:
    """Return a network's normalization of pixels in [0, 1].

    None for a model without a known one.
    """
    try:
        plain = model.classifier.plain
    except NotApplicableError:  # A stand-in has no network.
        return Normalise()
    mean, std = getattr(plain, "mean", None), getattr(plain, "std", None)
    if not isinstance(mean, torch.Tensor) or not isinstance(std, torch.Tensor):
        return Normalise()
    means, stds = (
        tuple(float(f"{value:.{_DIGITS}g}") for value in values.flatten().tolist())
        for values in (mean, std)
    )
    return Normalise(means, stds)


def under_unknown(
    model: RoleModel, images: LabelledImages, kind: str | None, elsewhere: LabelledImages | None
) -> Predictions:
    """Predict images of no class.

    A kind of `UNFAMILIAR` made from these images, or those from `elsewhere`.

    Raises `NotApplicableError` if no images from elsewhere are named, and `InputError` for a check
    without a kind.
    """
    if kind is None:
        raise InputError(
            f"unknown: the check names no images; expected one of {', '.join(UNFAMILIAR)}, "
            "elsewhere"
        )
    if kind in UNFAMILIAR:
        return model.predict(images, Unfamiliar(kind))
    if elsewhere is None:
        raise NotApplicableError(
            "no images from elsewhere are named; name some with the setting unknown"
        )
    return model.predict(elsewhere)
