"""Predictions of a model that is served through a pipeline with one skewed stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.base.errors import NotApplicableError
from harness.data.skews import SKEWS
from harness.inference.serving import model_serving, served_predictions
from harness.perturb.backgrounds import Intervention

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions, RoleModel


@dataclass(frozen=True, eq=False)
class Skewed:
    """Predictions of the same images by the reference pipeline and by another.

    Attributes:
        reference: Those of the reference pipeline.
        served: Those of the other pipeline, with the images of the reference.
        words: The difference of the pipelines.
        shown: The images of both, for pictures.
    """

    reference: Predictions
    served: Predictions
    words: str
    shown: Intervention


def under_skew(model: RoleModel, images: LabelledImages, name: str | None) -> Skewed:
    """Predict images by the reference pipeline, and with one of its stages skewed.

    Args:
        model: The model that predicts.
        images: The images.
        name: The name of a skew, from `SKEWS`.

    Raises:
        InputError: There is no skew of this name.
        NotApplicableError: No name is given, the skew changes nothing, or the model cannot be given
            such pixels.
    """
    if name is None:
        raise NotApplicableError("no skew is named; write skew in the row")
    serving = model_serving(model, images)
    skewed = serving.skewed(name)
    if skewed.scale.offset or skewed.normalise != serving.reference.normalise:
        _expect_free_pixels(model)

    words = skewed.words[SKEWS[name].stage]
    shown = Intervention(images, serving.by(skewed), f"served with {words}")
    served = served_predictions(model, serving, skewed)
    return Skewed(model.predict(images), served, words, shown)


def _expect_free_pixels(model: RoleModel) -> None:
    """Raise `NotApplicableError` for a model that takes pixels from 0 to 1 alone."""
    if model.classifier.rounded:
        raise NotApplicableError(
            "the checks file rounds images to 8 bits, which hold no other normalization"
        )
    if not model.provides.network:
        raise NotApplicableError(
            "a predictor takes pixels in [0, 1], so another normalization cannot be sent to it"
        )
