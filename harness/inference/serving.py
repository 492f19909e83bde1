"""A model's predictions for images from another pipeline and from the reference pipeline, and for those of no class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from harness.base.errors import InputError, NotApplicableError
from harness.data.serving.catalog import SKEWS
from harness.data.serving.served import Serving, serving_of
from harness.data.stages import Normalise
from harness.perturb.backgrounds import Intervention
from harness.perturb.unfamiliar import UNFAMILIAR, Unfamiliar

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.data.pipeline import Pipeline
    from harness.inference.predictions import Predictions
    from harness.inference.role import RoleModel


_DIGITS = 7
"""Significant digits that recover the written form of a normalization from float32."""


@dataclass(frozen=True, eq=False)
class Skewed:
    """Predictions of the same images by the reference pipeline and by another.

    `served` are those of the other pipeline, with the images of the reference. `words` describe the difference. `shown`
    has both images, for pictures.
    """

    reference: Predictions
    served: Predictions
    words: str
    shown: Intervention


def under_skew(model: RoleModel, images: LabelledImages, name: str | None) -> Skewed:
    """Predict images by the reference pipeline and with one of its stages skewed, `name` of `SKEWS`.

    Raises `InputError` for an unknown name, and `NotApplicableError` if the skew changes nothing.
    """
    if name is None:
        raise NotApplicableError("no skew is named; write skew in the row")
    serving = model_serving(model, images)
    skewed = serving.skewed(name)
    if skewed.scale.offset or skewed.normalise != serving.reference.normalise:
        if model.classifier.rounded:
            raise NotApplicableError(
                "the checks file rounds images to 8 bits, which hold no other normalization"
            )
        if not model.provides.network:
            raise NotApplicableError(
                "a predictor takes pixels in [0, 1], so another normalization cannot be sent to it"
            )
    words = skewed.words[SKEWS[name].stage]
    shown = Intervention(images, serving.by(skewed), f"served with {words}")
    return Skewed(model.predict(images), served_predictions(model, serving, skewed), words, shown)


def model_serving(model: RoleModel, images: LabelledImages) -> Serving:
    """Return images with their reference pipeline, whose last stage is the model's own normalization."""
    return serving_of(images, normalization_of(model))


def served_predictions(model: RoleModel, serving: Serving, pipeline: Pipeline) -> Predictions:
    """Return predictions for images from a pipeline, with the images of the reference pipeline attached."""
    return replace(model.predict(serving.by(pipeline)), images=serving.images)


def normalization_of(model: RoleModel) -> Normalise:
    """Return a network's normalization of pixels in [0, 1]; none for a model without a known one."""
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
    """Predict images of no class: a kind of `UNFAMILIAR` made from these images, or those from `elsewhere`.

    Raises `NotApplicableError` if no images from elsewhere are named, and `InputError` for a check without a kind.
    """
    if kind is None:
        raise InputError(
            f"unknown: the check names no images; expected one of {', '.join(UNFAMILIAR)}, elsewhere"
        )
    if kind in UNFAMILIAR:
        return model.predict(images, Unfamiliar(kind))
    if elsewhere is None:
        raise NotApplicableError(
            "no images from elsewhere are named; name some with the setting unknown"
        )
    return model.predict(elsewhere)
