"""Results of a search over poses.

They are robust accuracy, accuracy at random poses, breaking poses and persistent failures.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.base.errors import InputError
from harness.base.records import record
from harness.measures.metric import Curve, Measurement, Metric, Unit, mean_over, one_in, share_of
from harness.measures.selection import ordered
from harness.measures.statistics import Z95, proportion_interval

if TYPE_CHECKING:
    from harness.data import LabelledImages
    from harness.inference import Predictions
    from harness.inference.search import Breaking, FirstFailures


@record
class PersistentFailure:
    """An image that is predicted wrongly in many poses.

    Attributes:
        index: The position of the image in the full split.
        true: Its true class.
        wrong_at: The number of poses with a wrong prediction.
        taken_for: The most frequent wrong prediction.
        confidence: The mean confidence of the wrong predictions, None if not measured.
    """

    index: int
    true: str
    wrong_at: int
    taken_for: str
    confidence: float | None = None


@record
class PersistentFailures:
    """The images, of `n`, that are predicted wrongly in more than half of the `poses`.

    The most persistent come first.
    """

    n: int
    poses: int
    rows: tuple[PersistentFailure, ...]

    def by_confidence(self) -> list[PersistentFailure]:
        """Return the images by decreasing confidence; without a confidence, in their own order."""
        return sorted(self.rows, key=lambda row: -(row.confidence or 0.0))

    def by_confusion(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return each confusion (true class, predicted class, images' numbers).

        The most frequent one comes first.
        """
        groups: dict[tuple[str, str], list[int]] = {}
        for row in self.rows:
            groups.setdefault((row.true, row.taken_for), []).append(row.index)
        most_frequent_first = sorted(groups.items(), key=lambda item: -len(item[1]))
        return [(true, taken, tuple(numbers)) for (true, taken), numbers in most_frequent_first]


def persistent_failures(
    images: LabelledImages, predicted: np.ndarray, confidence: np.ndarray | None = None
) -> PersistentFailures:
    """List the images that are predicted wrongly in more than half of the poses.

    Args:
        images: The N images.
        predicted: The predicted classes, (N, P) int, a column for each pose.
        confidence: The confidence of each wrong prediction, (N, P) in [0, 1], and 0 elsewhere.
    """
    classes = images.classes
    labels = images.labels.numpy()
    indices = images.positions.numpy()
    wrong = predicted != labels[:, None]
    wrong_poses = wrong.sum(axis=1)
    poses = predicted.shape[1]

    rows = []
    for image in ordered(2 * wrong_poses > poses, -wrong_poses).tolist():
        votes = np.bincount(predicted[image][wrong[image]])
        mean_confidence = None
        if confidence is not None:
            mean_confidence = float(confidence[image].sum() / wrong_poses[image])
        rows.append(
            PersistentFailure(
                index=int(indices[image]),
                true=classes[labels[image]],
                wrong_at=int(wrong_poses[image]),
                taken_for=classes[int(votes.argmax())],
                confidence=mean_confidence,
            )
        )
    return PersistentFailures(len(images), poses, tuple(rows))


ROBUST_ACCURACY = Metric(
    "robust_accuracy",
    Unit.SHARE,
    better="more",
    weighted=True,
    about="share of images that are predicted correctly in all poses of a grid",
    at_chance=one_in,
)
RANDOM_POSE_ACCURACY = Metric(
    "random_pose_accuracy",
    Unit.SHARE,
    better="more",
    about="mean accuracy over random poses, which each image has of its own",
    at_chance=one_in,
)
WORST_OF_TEN = Metric(
    "worst_of_ten",
    Unit.SHARE,
    better="more",
    about="share of images that are predicted correctly in all of their ten random poses",
    at_chance=one_in,
)
UNCHANGED_SHARE = Metric(
    "unchanged_share",
    Unit.SHARE,
    better="more",
    weighted=True,
    about="share of images with the same prediction in all poses of a search",
)
BREAKING_SEVERITY = Metric(
    "breaking_severity",
    Unit.DEGREES,
    better="more",
    about=(
        "severity at which a share of the correct predictions is lost: degrees, pixels, or a share "
        "of both"
    ),
)
"""Its unit is that of the path: degrees, pixels, or a share of both."""


def robust_accuracy(found: FirstFailures, *, clean: Predictions | None = None) -> Measurement:
    """Return robust accuracy: the share of images that are correct in all poses, in [0, 1].

    The failures are in the order of the poses that break them.

    Args:
        found: The first pose with a wrong prediction of each image.
        clean: Predictions of the images without a perturbation.
    """
    correct = found.right_everywhere
    measured = share_of(
        ROBUST_ACCURACY,
        correct,
        detail=f"{int((~correct).sum())} images fail at some of {len(found.poses)} poses",
        failures=ordered(~correct, found.first),
        images=found.images,
    )
    return _with_clean_value(measured, correct, clean)


def random_pose_accuracy(correct: np.ndarray, *, clean: Predictions | None = None) -> Measurement:
    """Return the mean accuracy over each image's own random poses, in [0, 1].

    The interval is Wilson's for one prediction per image, since predictions for one image are
    dependent.

    Args:
        correct: Whether each prediction is correct, (N, P) bool.
        clean: Predictions of the N images without a perturbation.
    """
    images, poses = correct.shape
    share = float(correct.mean())
    interval = proportion_interval(round(share * images), images)
    measured = Measurement(
        RANDOM_POSE_ACCURACY, share, images, interval, detail=f"{poses} poses each"
    )
    return _with_clean_value(measured, correct.mean(axis=1), clean)


def worst_of_ten(correct: np.ndarray, *, clean: Predictions | None = None) -> Measurement:
    """Return the share of images that are correct at all of their own ten random poses.

    Args:
        correct: Whether each prediction is correct, (N, 10) bool.
        clean: Predictions of the N images without a perturbation.

    Raises:
        InputError: There are not ten poses.
    """
    if correct.shape[1] != 10:  # noqa: PLR2004  Ten, as in the name.
        raise InputError(f"worst of ten: each image has {correct.shape[1]} poses, expected 10")
    always = np.asarray(correct.all(axis=1))
    measured = share_of(WORST_OF_TEN, always, failures=np.flatnonzero(~always))
    return _with_clean_value(measured, always, clean)


def unchanged_share(changed: FirstFailures) -> Measurement:
    """Return the share of images with the same prediction in all poses of a sequence, in [0, 1].

    The failures are the other images, in the order of the poses that change them.
    """
    same = changed.right_everywhere
    return share_of(
        UNCHANGED_SHARE,
        same,
        detail=f"{len(changed.poses)} poses drawn",
        failures=ordered(~same, changed.first),
        rest=1.0,
        images=changed.images,
    )


def breaking_severity(found: Breaking, *, share_broken: float) -> Measurement:
    """Return the severity that breaks a share of the images with a correct clean prediction.

    The unit is that of the path. The curve is the path's survival curve.

    Args:
        found: The severity that breaks each image.
        share_broken: The share of these images, in [0, 1].

    Raises:
        InputError: No clean image is correct.
    """
    n = len(found.severity)
    if not n:
        raise InputError(
            f"breaking severity: none of {found.images} clean images is correct, so none can break"
        )
    # The interval of a quantile: the severities at the shares 1.96 standard errors away (normal
    # approximation to the binomial, Conover 1999, section 3.2).
    margin = Z95 * math.sqrt(share_broken * (1 - share_broken) / n)
    low = found.quantile(max(share_broken - margin, 0.0))
    high = found.quantile(min(share_broken + margin, 1.0))

    unbroken = int(np.isinf(found.severity).sum())
    return Measurement(
        replace(BREAKING_SEVERITY, unit=Unit(found.path.unit), range=(math.nan, math.nan)),
        found.quantile(share_broken),
        found.images,
        (low, high),
        detail=(
            f"of {n} images that are correct when clean, {unbroken} are correct up to the limit of "
            f"{found.path.limit}"
        ),
        counted=n,
        curve=survival(found),
    )


def survival(found: Breaking) -> Curve:
    """Return the share of correct clean predictions that survive up to each severity, in [0, 1].

    An image survives if it is correct at all poses up to the severity.
    """
    severities, shares = found.survival()
    return Curve(
        survival_name(found.path.name), tuple(map(float, severities)), tuple(map(float, shares))
    )


def survival_name(path: str) -> str:
    """Return the name of a path's survival curve."""
    return f"survival, {path}"


def _with_clean_value(
    measured: Measurement, each: np.ndarray, clean: Predictions | None
) -> Measurement:
    """Return a measurement with the clean value and the contributions of the images.

    Calibration uses the contributions only with the clean value. Weighted ones are unchanged.
    """
    if clean is None:
        return replace(measured, each=None)
    if measured.sampling is not None and measured.each is not None:
        each = measured.each
    return replace(measured, each=each, rest=mean_over(clean.images, clean.correct))
