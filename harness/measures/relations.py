"""Metamorphic relations between a model's predictions for versions of one image, without true classes.

A prediction should not change when its image is flipped, whatever the true class is (Chen, Cheung & Yiu 1998; Xie et
al. 2011, "Testing and Validating Machine Learning Classifiers by Metamorphic Testing"). Each measure is the share of
images for which the relation holds, in [0, 1], with Wilson's interval. Its failures are the images that break it.
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
    """Return the share of images with the same prediction after a change that should not matter, in [0, 1].

    Predictions may be correct or wrong, since `accuracy` measures that. The failures are the images with another
    prediction: first those that were correct, by the confidence of the new prediction. Raises `InputError` for other
    images.
    """
    same = _same_answers(before, after)
    right_before = int((before.correct & ~same).sum())
    detail = f"{int((~same).sum())} predictions change, {right_before} of them right before"
    sureness = np.where(after.correct, 0, after.confidence_as_answered) + before.correct
    failures = ordered(~same, -sureness)
    return share_of(
        PREDICTION_CONSISTENCY,
        same,
        detail=detail,
        failures=failures,
        rest=1.0,
        images=before.images,
    )


def object_dependence(before: Predictions, after: Predictions) -> Measurement:
    """Return the share of images with another prediction after their object is erased, in [0, 1].

    A model must still predict some class, and images that already had this class cannot change. The failures are the
    images with the same prediction. Raises `InputError` for other images.
    """
    same = _same_answers(before, after)
    commonest = int(np.bincount(after.predicted).argmax())
    share = (after.predicted == commonest).mean()
    detail = f"{share:.0%} are then predicted as {after.classes[commonest]}"
    return share_of(
        OBJECT_DEPENDENCE,
        ~same,
        detail=detail,
        failures=np.flatnonzero(same),
        rest=1.0,
        images=before.images,
    )


def _same_answers(before: Predictions, after: Predictions) -> np.ndarray:
    expect_same_images("predictions before and after", before, after, alike=False)
    return np.asarray(before.predicted == after.predicted)


def invariance(before: Predictions, *after: Predictions) -> Measurement:
    """Return the share of images with the same prediction after every change; for one, see `prediction_consistency`.

    The failures are in the order of `prediction_consistency`, those of the first change first. Raises `InputError` for
    other images, and without any change.
    """
    if not after:
        raise InputError(
            "invariance: predictions before a change and none after it; expected at least one of each"
        )
    each = [prediction_consistency(before, one) for one in after]
    broken = np.array(
        list(dict.fromkeys(at for one in each for at in one.failures)), dtype=np.int64
    )
    under, change = (
        "" if len(after) == 1 else f" under some of {len(after)} changes",
        after[0].perturbation,
    )
    named = "after the change" if change == IDENTITY else f"when {in_words(change)}"
    named = "after mirroring" if isinstance(change, HorizontalFlip) else named
    words = INVARIANCE.words if under else f"same prediction {named}"
    held = np.all([before.predicted == one.predicted for one in after], axis=0)
    detail = f"{len(broken)} predictions change{under}"
    return share_of(
        replace(INVARIANCE, words=words),
        held,
        detail=detail,
        failures=broken,
        rest=1.0,
        images=before.images,
    )


def monotonicity(series: Sequence[Predictions], *, tolerance: float = TOLERANCE) -> Measurement:
    """Return the share of images without a rise of confidence, beyond the tolerance, as severity grows.

    `series` is in the order of severity, as from `along`. The confidence is the probability of an image's first
    prediction. It rises if it exceeds its lowest value at lower severities by more than `tolerance`, in [0, 1]. The
    failures are the images with a rise, the largest first. Raises `InputError` for other images, and for fewer than two
    severities.
    """
    first, *others = series
    if not others:
        raise InputError("monotonicity: one severity, expected at least two to compare")
    expect_same_images("predictions before and after", first, *others, alike=False)
    answers = first.predicted[:, None]
    followed = np.hstack([np.take_along_axis(at.probabilities, answers, axis=1) for at in series])
    rise = (followed[:, 1:] - np.minimum.accumulate(followed, axis=1)[:, :-1]).max(axis=1)
    shown = " → ".join(f"{mean:.3f}" for mean in followed.mean(axis=0))
    detail = (
        f"mean probability of the first prediction {shown}; largest rise {max(rise.max(), 0):.3f}"
    )
    rising = rise > tolerance
    return share_of(
        MONOTONICITY,
        ~rising,
        detail=detail,
        failures=ordered(rising, -rise),
        rest=1.0,
        images=first.images,
    )


def symmetry(one_way: Predictions, other_way: Predictions) -> Measurement:
    """Return the share of images with the same prediction in both directions, such as rotated left and right.

    The failures are in the order of `prediction_consistency`. Raises `InputError` for other images.
    """
    measured = prediction_consistency(one_way, other_way)
    there, back = one_way.correct.mean(), other_way.correct.mean()
    detail = f"{len(measured.failures)} predictions differ; {there:.1%} are right one way, {back:.1%} the other"
    return replace(measured, metric=SYMMETRY, detail=detail)
