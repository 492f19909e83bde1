"""Results of a search over poses: robust accuracy, accuracy at random poses, breaking poses, persistent failures."""

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
    """An image that is wrong at `wrong_at` of the poses; `taken_for` is the most frequent wrong prediction.

    `confidence` is the mean of the wrong predictions, None if not measured.
    """

    index: int
    true: str
    wrong_at: int
    taken_for: str
    confidence: float | None = None


@record
class PersistentFailures:
    """The images, of `n`, that are wrong at more than half of the `poses`, the most persistent first."""

    n: int
    poses: int
    rows: tuple[PersistentFailure, ...]

    def by_confidence(self) -> list[PersistentFailure]:
        """Return the images by decreasing confidence; without a confidence, in their own order."""
        return sorted(self.rows, key=lambda row: -(row.confidence or 0.0))

    def by_confusion(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return the images' numbers by (true class, predicted class), the most frequent confusion first."""
        groups: dict[tuple[str, str], list[int]] = {}
        for row in self.rows:
            groups.setdefault((row.true, row.taken_for), []).append(row.index)
        ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
        return [(true, taken_for, tuple(numbers)) for (true, taken_for), numbers in ordered]


def persistent_failures(
    images: LabelledImages, predicted: np.ndarray, confidence: np.ndarray | None = None
) -> PersistentFailures:
    """List the images that are wrong at more than half of the poses; `predicted` is (N, P) int, a column for each.

    `confidence` is that of each wrong prediction, (N, P) in [0, 1], and 0 elsewhere.
    """
    labels, numbers, classes = images.labels.numpy(), images.positions.numpy(), images.classes
    wrong, rows = predicted != labels[:, None], []
    times, poses = wrong.sum(axis=1), predicted.shape[1]
    for at in ordered(2 * times > poses, -times).tolist():
        votes = np.bincount(predicted[at][wrong[at]])
        sure = None if confidence is None else float(confidence[at].sum() / times[at])
        taken = classes[int(votes.argmax())]
        rows.append(
            PersistentFailure(int(numbers[at]), classes[labels[at]], int(times[at]), taken, sure)
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
    about="severity at which a share of the correct predictions is lost: degrees, pixels, or a share of both",
)
"""Its unit is that of the path: degrees, pixels, or a share of both."""


def robust_accuracy(found: FirstFailures, *, clean: Predictions | None = None) -> Measurement:
    """Return robust accuracy: the share of images that are correct in all poses of a sequence, in [0, 1].

    `clean` are their predictions without a perturbation. The failures are in the order of the poses that break them.
    """
    right = found.right_everywhere
    detail = f"{int((~right).sum())} images fail at some of {len(found.poses)} poses"
    measured = share_of(
        ROBUST_ACCURACY,
        right,
        detail=detail,
        failures=ordered(~right, found.first),
        images=found.images,
    )
    return _against(measured, right, clean)


def random_pose_accuracy(correct: np.ndarray, *, clean: Predictions | None = None) -> Measurement:
    """Return the mean accuracy over each image's own random poses, in [0, 1]; `correct` is (images, poses) bool.

    The interval is Wilson's for one prediction per image, since predictions for one image are dependent.
    """
    images, poses = correct.shape
    share = float(correct.mean())
    interval = proportion_interval(round(share * images), images)
    measured = Measurement(
        RANDOM_POSE_ACCURACY, share, images, interval, detail=f"{poses} poses each"
    )
    return _against(measured, correct.mean(axis=1), clean)


def worst_of_ten(correct: np.ndarray, *, clean: Predictions | None = None) -> Measurement:
    """Return the share of images that are correct at all of their own ten random poses; `correct` is (images, 10)."""
    if correct.shape[1] != 10:  # noqa: PLR2004  Ten, as in the name.
        raise InputError(f"worst of ten: each image has {correct.shape[1]} poses, expected 10")
    always = np.asarray(correct.all(axis=1))
    return _against(share_of(WORST_OF_TEN, always, failures=np.flatnonzero(~always)), always, clean)


def unchanged_share(changed: FirstFailures) -> Measurement:
    """Return the share of images with the same prediction in all poses of a sequence, in [0, 1].

    The failures are the other images, in the order of the poses that change them.
    """
    same, detail = changed.right_everywhere, f"{len(changed.poses)} poses drawn"
    failures = ordered(~same, changed.first)
    return share_of(
        UNCHANGED_SHARE, same, detail=detail, failures=failures, rest=1.0, images=changed.images
    )


def breaking_severity(found: Breaking, *, share_broken: float) -> Measurement:
    """Return the severity that breaks this share of the images with a correct clean prediction, in the path's unit.

    The interval is that of the quantile: the severities at the shares 1.96 standard errors away (normal approximation
    to the binomial, Conover 1999, section 3.2). The curve is the path's survival curve.
    """
    n = len(found.severity)
    if not n:
        raise InputError(
            f"breaking severity: none of {found.images} clean images is correct, so none can break"
        )
    margin = Z95 * math.sqrt(share_broken * (1 - share_broken) / n)
    low, high = (
        found.quantile(min(max(share_broken + side * margin, 0.0), 1.0)) for side in (-1, 1)
    )
    held = int(np.isinf(found.severity).sum())
    return Measurement(
        replace(BREAKING_SEVERITY, unit=Unit(found.path.unit), range=(math.nan, math.nan)),
        found.quantile(share_broken),
        found.images,
        (low, high),
        detail=f"of {n} images that are correct when clean, {held} are correct up to the limit of {found.path.limit}",
        counted=n,
        curve=survival(found),
    )


def survival(found: Breaking) -> Curve:
    """Return the share of correct clean predictions, in [0, 1], that are correct at all poses up to each severity."""
    severities, shares = found.survival()
    return Curve(
        survival_name(found.path.name), tuple(map(float, severities)), tuple(map(float, shares))
    )


def survival_name(path: str) -> str:
    """Return the name of a path's survival curve."""
    return f"survival, {path}"


def _against(
    measured: Measurement, each: np.ndarray | None, clean: Predictions | None
) -> Measurement:
    # Calibration uses the contributions of the images only with the clean value.
    rest, each = (
        mean_over(clean.images, clean.correct) if clean else None,
        measured.each if measured.sampling else each,
    )
    return replace(measured, each=each if clean else None, rest=rest)
