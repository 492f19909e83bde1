"""A first trial of the model that `init` was given: chance accuracy is refused, with the input fault behind it."""

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
    """Raise `InputError` for a model that predicts no better than chance; the message has what would help, if anything.

    Tried are another order of the classes, and the input faults that a failing run tries, too.
    """
    if is_above_chance(predictions):
        return
    n, classes = len(predictions.labels), len(predictions.classes)
    said = (
        f"{path}: accuracy {predictions.correct.mean():.1%} on {n:,} images of {classes} classes is no better than "
        "chance, so nothing was written"
    )
    if (order := other_order(predictions)) is not None:
        raise UnusableModelError(
            f"{said}. Its classes are in another order than those of the data: {order[1]}. Give the data the order of "
            "its training"
        )
    images = predictions.images
    found = best_fault(
        model, predictions, few=_FEW, normalizations={"own": normalization_of_data(images)}
    )
    if found is None:
        raise UnusableModelError(f"{said}. No other input could be tried. {_LOOK}")
    faults, pipeline = found
    if faults.explain and faults.correct_with > 2 * faults.correct:
        accuracy = faults.correct_with / faults.n
        raise UnusableModelError(
            f"{said}. {_words_of(faults, pipeline, model)}: {accuracy:.1%}. {_advice(pipeline, model)}"
        )
    raise UnusableModelError(
        f"{said}. None of {faults.tried} other inputs helps (normalizations, levels, order of channels). {_LOOK}"
    )


_LOOK = "Check that the file has trained weights, and the size, the classes and the normalization of the images"


def is_above_chance(predictions: Predictions) -> bool:
    """Return whether the mean accuracy over the classes is above that of a guess, by its 95% interval.

    The mean over classes is 1/K for a guess, and for a constant prediction, however many images each of K classes has.
    """
    of_class = [
        predictions.correct[predictions.labels == label] for label in np.unique(predictions.labels)
    ]
    if len(of_class) == 1:
        return True
    shares = np.array([correct.mean() for correct in of_class])
    # Agresti & Coull (1998): two more correct and two more wrong, so that no variance is zero.
    counts = np.array([len(correct) + 4 for correct in of_class])
    adjusted = np.array([(correct.sum() + 2) / (len(correct) + 4) for correct in of_class])
    error = np.sqrt((adjusted * (1 - adjusted) / counts).sum()) / len(of_class)
    return bool(shares.mean() - Z95 * error > 1 / len(of_class))


def normalization_of_data(images: LabelledImages) -> Normalise:
    """Return the mean and standard deviation of each channel of the images, in [0, 1], rounded."""
    sums, squares, count = 0.0, 0.0, 0
    for _, part in in_parts(images.pixels):
        levels = part.numpy().astype(np.float64) / 255
        sums = sums + levels.sum(axis=(0, 2, 3))
        squares = squares + np.square(levels).sum(axis=(0, 2, 3))
        count += levels.shape[0] * levels.shape[2] * levels.shape[3]
    mean = np.asarray(sums) / count
    std = np.sqrt(np.maximum(np.asarray(squares) / count - np.square(mean), 1e-8))
    return Normalise(
        tuple(mean.round(_PLACES).tolist()), tuple(np.maximum(std.round(_PLACES), 1e-4).tolist())
    )


def _words_of(faults: InputFaults, pipeline: Pipeline, model: RoleModel) -> str:
    """Return what would help, for a sentence with the accuracy behind it."""
    if not _is_normalization(pipeline, model):
        return f"With other pixels ({faults.best})"
    if pipeline.normalise == Normalise():
        return "Without a normalization"
    mean, std = (
        ", ".join(f"{value:.2f}" for value in each)
        for each in (pipeline.normalise.mean, pipeline.normalise.std)
    )
    return f"With normalization mean {mean}, std {std}"


def _advice(pipeline: Pipeline, model: RoleModel) -> str:
    if not _is_normalization(pipeline, model):
        return "Serve the model these pixels, for example by the setting transform or by a module around it"
    if pipeline.normalise == Normalise():
        return "Add --set normalization=none"
    mean, std = (
        ",".join(f"{value:g}" for value in each)
        for each in (pipeline.normalise.mean, pipeline.normalise.std)
    )
    several = len(pipeline.normalise.mean) > 1
    return f"Add --set normalization={f'[{mean}],[{std}]' if several else f'{mean},{std}'}"


def _is_normalization(pipeline: Pipeline, model: RoleModel) -> bool:
    """Return whether a pipeline differs from that of the model in the normalization alone."""
    plain = (
        pipeline.scale == Scale()
        and pipeline.color.order == type(pipeline.color)(pipeline.color.channels).order
    )
    return plain and pipeline.normalise != normalization_of(model)
