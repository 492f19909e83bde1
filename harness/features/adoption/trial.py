"""A first trial of the model that `init` was given.

A model at chance accuracy is refused, and the message names the input fault behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import UnusableModelError
from harness.data.rows import in_parts
from harness.data.stages import Normalise, Scale
from harness.inference.predictors.answers import other_order
from harness.inference.serving import normalization_of
from harness.measures.statistics import Z95
from harness.run.input_faults import best_fault

if TYPE_CHECKING:
    from pathlib import Path

    from harness.data import LabelledImages
    from harness.data.pipeline import Pipeline
    from harness.inference import Predictions, RoleModel
    from harness.run.findings import InputFaults

_FEW = 100
"""Images that choose the best input fault, of those that are correct and of the others."""
_PLACES = 4
"""Decimals of a mean and a standard deviation in the advice."""


def expect_above_chance(model: RoleModel, predictions: Predictions, path: Path | str) -> None:
    """Raise `UnusableModelError` for a model that predicts no better than chance.

    The message says what would help. Another order of the classes is tried, and the input faults
    that a failing run tries, too.

    Args:
        model: The model.
        predictions: Its predictions of the clean images.
        path: Its name for the message.
    """
    if is_above_chance(predictions):
        return
    accuracy = predictions.correct.mean()
    message = (
        f"{path}: accuracy {accuracy:.1%} on {len(predictions.labels):,} images of "
        f"{len(predictions.classes)} classes is no better than chance, so nothing was written"
    )

    order = other_order(predictions)
    if order is not None:
        raise UnusableModelError(
            f"{message}. Its classes are in another order than those of the data: {order[1]}. "
            "Give the data the order of its training"
        )

    own_normalization = normalization_of_data(predictions.images)
    best = best_fault(model, predictions, few=_FEW, normalizations={"own": own_normalization})
    if best is None:
        raise UnusableModelError(f"{message}. No other input could be tried. {_LOOK}")
    faults, pipeline = best
    if faults.explain and faults.correct_with > 2 * faults.correct:
        remedy = _words_of(faults, pipeline, model)
        accuracy_with = faults.correct_with / faults.n
        raise UnusableModelError(
            f"{message}. {remedy}: {accuracy_with:.1%}. {_advice(pipeline, model)}"
        )
    raise UnusableModelError(
        f"{message}. None of {faults.tried} other inputs helps "
        f"(normalizations, levels, order of channels). {_LOOK}"
    )


_LOOK = (
    "Check that the file has trained weights, "
    "and the size, the classes and the normalization of the images"
)


def is_above_chance(predictions: Predictions) -> bool:
    """Return whether the mean accuracy over the classes is above that of a guess.

    The lower end of its 95% interval decides. The mean over K classes is 1/K for a guess, and for a
    constant prediction, however many images each class has.
    """
    correct_by_class = [
        predictions.correct[predictions.labels == label] for label in np.unique(predictions.labels)
    ]
    classes = len(correct_by_class)
    if classes == 1:
        return True

    accuracies = np.array([correct.mean() for correct in correct_by_class])
    # Agresti & Coull (1998): two more correct and two more wrong, so that no variance is zero.
    counts = np.array([len(correct) + 4 for correct in correct_by_class])
    adjusted = np.array([(correct.sum() + 2) / (len(correct) + 4) for correct in correct_by_class])
    variances = adjusted * (1 - adjusted) / counts
    standard_error = np.sqrt(variances.sum()) / classes
    return bool(accuracies.mean() - Z95 * standard_error > 1 / classes)


def normalization_of_data(images: LabelledImages) -> Normalise:
    """Return the mean and standard deviation of each channel of the images, in [0, 1], rounded."""
    sums = 0.0
    squares = 0.0
    count = 0
    for _, part in in_parts(images.pixels):
        levels = part.numpy().astype(np.float64) / 255
        sums = sums + levels.sum(axis=(0, 2, 3))
        squares = squares + np.square(levels).sum(axis=(0, 2, 3))
        count += levels.shape[0] * levels.shape[2] * levels.shape[3]

    mean = np.asarray(sums) / count
    variance = np.asarray(squares) / count - np.square(mean)
    # Images of one color have no variance, and their normalization would divide by zero.
    std = np.sqrt(np.maximum(variance, 1e-8)).round(_PLACES)
    return Normalise(
        tuple(mean.round(_PLACES).tolist()),
        tuple(np.maximum(std, 1e-4).tolist()),
    )


def _words_of(faults: InputFaults, pipeline: Pipeline, model: RoleModel) -> str:
    """Return what would help, for a sentence with the accuracy behind it."""
    if not _is_normalization(pipeline, model):
        return f"With other pixels ({faults.best})"
    if pipeline.normalise == Normalise():
        return "Without a normalization"
    mean = ", ".join(f"{value:.2f}" for value in pipeline.normalise.mean)
    std = ", ".join(f"{value:.2f}" for value in pipeline.normalise.std)
    return f"With normalization mean {mean}, std {std}"


def _advice(pipeline: Pipeline, model: RoleModel) -> str:
    """Return the option that serves the model with the pixels of a pipeline."""
    if not _is_normalization(pipeline, model):
        return (
            "Serve the model these pixels, "
            "for example by the setting transform or by a module around it"
        )
    if pipeline.normalise == Normalise():
        return "Add --set normalization=none"
    mean = ",".join(f"{value:g}" for value in pipeline.normalise.mean)
    std = ",".join(f"{value:g}" for value in pipeline.normalise.std)
    if len(pipeline.normalise.mean) > 1:
        return f"Add --set normalization=[{mean}],[{std}]"
    return f"Add --set normalization={mean},{std}"


def _is_normalization(pipeline: Pipeline, model: RoleModel) -> bool:
    """Return whether a pipeline differs from that of the model in the normalization alone."""
    plain_color = type(pipeline.color)(pipeline.color.channels)
    if pipeline.scale != Scale() or pipeline.color.order != plain_color.order:
        return False
    return pipeline.normalise != normalization_of(model)
