"""Metamorphic relations between predictions for versions of one image, without true classes.

A prediction should not change when its image is flipped, whatever the true class is (Chen, Cheung &
Yiu 1998; Xie et al. 2011, "Testing and Validating Machine Learning Classifiers by Metamorphic
Testing"). Each measure is the share of images for which the relation holds, in [0, 1], with
Wilson's interval. Its failures are the images that break it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.measures.metric import Measurement, Metric, Unit, share_of
from harness.measures.selection import expect_same_images, ordered
from harness.perturb import IDENTITY, HorizontalFlip
from harness.perturb.poses import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.inference import Predictions
    from harness.perturb import Perturbation

_share = partial(Metric, unit=Unit.SHARE, better="more", weighted=True)
PREDICTION_CONSISTENCY = _share("prediction_consistency", words="same prediction after the change")
OBJECT_DEPENDENCE = _share(
    "object_dependence", words="share of predictions that go with the object"
)
INVARIANCE = _share("invariance", words="same prediction after every change")
MONOTONICITY = _share(
    "monotonicity", words="monotonicity: share of images never more confident as severity grows"
)
SYMMETRY = _share("symmetry", words="symmetry: share of predictions that are the same both ways")
TOLERANCE = 0.05
"""Largest rise of a probability that does not count, as interpolation and noise may cause it."""


def prediction_consistency(before: Predictions, after: Predictions) -> Measurement:
    """Return the share of images with the same prediction after a change, in [0, 1].

    The change should not matter. Predictions may be correct or wrong, since `accuracy` measures
    that. The failures are the images with another prediction: first those that were correct, by the
    confidence of the new prediction. Raises `InputError` for other images.
    """
    same = _same_predictions(before, after)
    correct_before = int((before.correct & ~same).sum())
    # Confidences are at most 1, so images that were correct come first.
    confidences = np.where(after.correct, 0, after.confidence_as_answered)
    return share_of(
        PREDICTION_CONSISTENCY,
        same,
        detail=f"{int((~same).sum())} predictions change, {correct_before} of them right before",
        failures=ordered(~same, -(confidences + before.correct)),
        rest=1.0,
        images=before.images,
    )


def object_dependence(before: Predictions, after: Predictions) -> Measurement:
    """Return the share of images with another prediction after their object is erased, in [0, 1].

    A model must still predict some class, and images that already had this class cannot change. The
    failures are the images with the same prediction. Raises `InputError` for other images.
    """
    same = _same_predictions(before, after)
    most_frequent = int(np.bincount(after.predicted).argmax())
    share = (after.predicted == most_frequent).mean()
    return share_of(
        OBJECT_DEPENDENCE,
        ~same,
        detail=f"{share:.0%} are then predicted as {after.classes[most_frequent]}",
        failures=np.flatnonzero(same),
        rest=1.0,
        images=before.images,
    )


def _same_predictions(before: Predictions, after: Predictions) -> np.ndarray:
    expect_same_images("predictions before and after", before, after, alike=False)
    return np.asarray(before.predicted == after.predicted)


def invariance(before: Predictions, *after: Predictions) -> Measurement:
    """Return the share of images with the same prediction after every change, in [0, 1].

    The failures are in the order of `prediction_consistency`, those of the first change first.
    Raises `InputError` for other images, and without any change.
    """
    if not after:
        raise InputError(
            "invariance: predictions before a change and none after it; expected at least one of "
            "each"
        )
    failures: list[int] = []
    for changed in after:
        failures += prediction_consistency(before, changed).failures.tolist()
    unique_failures = np.array(list(dict.fromkeys(failures)), dtype=np.int64)
    same = np.all([before.predicted == changed.predicted for changed in after], axis=0)

    words = INVARIANCE.words
    detail = f"{len(unique_failures)} predictions change"
    if len(after) == 1:
        words = f"same prediction {_when(after[0].perturbation)}"
    else:
        detail += f" under some of {len(after)} changes"
    return share_of(
        replace(INVARIANCE, words=words),
        same,
        detail=detail,
        failures=unique_failures,
        rest=1.0,
        images=before.images,
    )


def _when(change: Perturbation) -> str:
    if isinstance(change, HorizontalFlip):
        return "after mirroring"
    if change == IDENTITY:
        return "after the change"
    return f"when {in_words(change)}"


def monotonicity(series: Sequence[Predictions], *, tolerance: float = TOLERANCE) -> Measurement:
    """Return the share of images without a rise of confidence as severity grows, in [0, 1].

    The confidence is the probability of an image's first prediction. The failures are the images
    with a rise, the largest first.

    Args:
        series: The predictions in the order of severity, as from `along`.
        tolerance: A rise counts if the confidence exceeds its lowest value at lower severities by
            more than this, in [0, 1].

    Raises:
        InputError: The images differ, or there are fewer than two severities.
    """
    first, *others = series
    if not others:
        raise InputError("monotonicity: one severity, expected at least two to compare")
    expect_same_images("predictions before and after", first, *others, alike=False)

    first_predicted = first.predicted[:, None]
    columns = [np.take_along_axis(at.probabilities, first_predicted, axis=1) for at in series]
    confidences = np.hstack(columns)
    lowest_before = np.minimum.accumulate(confidences, axis=1)[:, :-1]
    largest_rises = (confidences[:, 1:] - lowest_before).max(axis=1)
    rises = largest_rises > tolerance

    means = " → ".join(f"{mean:.3f}" for mean in confidences.mean(axis=0))
    largest_rise = max(largest_rises.max(), 0)
    return share_of(
        MONOTONICITY,
        ~rises,
        detail=f"mean probability of the first prediction {means}; largest rise {largest_rise:.3f}",
        failures=ordered(rises, -largest_rises),
        rest=1.0,
        images=first.images,
    )


def symmetry(one_way: Predictions, other_way: Predictions) -> Measurement:
    """Return the share of images with the same prediction in both directions, in [0, 1].

    Directions are for example a rotation to the left and one to the right. The failures are in the
    order of `prediction_consistency`. Raises `InputError` for other images.
    """
    measured = prediction_consistency(one_way, other_way)
    first_accuracy = one_way.correct.mean()
    second_accuracy = other_way.correct.mean()
    detail = (
        f"{len(measured.failures)} predictions differ; {first_accuracy:.1%} are right one way, "
        f"{second_accuracy:.1%} the other"
    )
    return replace(measured, metric=SYMMETRY, detail=detail)
